"""Checks the PyTorch models and optimizers against the golden numbers of our Rust tests.

The numbers have two sources. Those in `bdh-models/tests`, for weights that a formula gives, are always checked.
Fixtures, which are files made by the originals, are checked if they are in `BDH_FIXTURES` or `../shared/fixtures`.
"""

import json
import math
import os
import sys
from pathlib import Path

import torch

import optim
from presets import model_of, tune

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"nanogpt": "gpt2", "nanochat": "nanochat", "bdh": "hatchling"}
checks = 0


def close(what, measured, expected, tolerance, absolute=False):
    global checks
    checks += 1
    measured = torch.as_tensor(measured).item()
    apart = abs(measured - expected) / (1 if absolute else abs(expected))
    if not apart <= tolerance:
        sys.exit(f"{what} is {measured}, expected {expected}: the difference {apart:.1e} is more than {tolerance:.0e}")


def norm(tensor):
    return tensor.detach().double().norm().item()


def total_norm(tensors):
    return math.sqrt(sum(norm(tensor) ** 2 for tensor in tensors))


def wave(model, phase):
    """Sets the weights by a formula: element k of a parameter is 0.1 sin(0.37 k + phase)."""
    with torch.no_grad():
        for index, (name, param) in enumerate(sorted(model.named_parameters())):
            k = torch.arange(param.numel(), dtype=torch.float64)
            param.copy_((0.1 * (0.37 * k + phase(index, name)).sin()).view(param.shape))


def backward(model, tokens, targets):
    model.zero_grad(set_to_none=True)
    loss = model(tokens, targets)
    loss.backward()
    return loss.item(), {name: param.grad for name, param in model.named_parameters()}


def golden_nanochat():
    """Checks the numbers of bdh-models/tests/nanochat_golden.rs."""
    settings = {
        "sequence_len": 16, "vocab_size": 60, "n_layer": 2, "n_head": 2, "n_kv_head": 1, "n_embd": 32,
        "window_pattern": "L",
    }
    model = model_of("nanochat", settings)
    wave(model, lambda index, _: 0.1 * (index + 1))
    ids = [1, 5, 2, 7, 3, 0, 59, 4, 8, 9, 10, 33, 12, 13, 14, 15, -1]
    tokens, targets = torch.tensor([ids[:-1]]), torch.tensor([ids[1:]])
    logits = model.logits(tokens)[0]
    rows = {0: [0.1757572, -0.0886344, -0.3082477, -0.3722388], 15: [-0.5687214, -0.5573757, -0.2647391, 0.1617525]}
    for row, expected in rows.items():
        for column, value in enumerate(expected):
            close(f"nanochat logit {row}, {column}", logits[row, column], value, 1e-5, absolute=True)

    loss, grads = backward(model, tokens, targets)
    close("nanochat loss", loss, 4.19505072, 1e-6)
    close("nanochat gradient", total_norm(grads.values()), 4.40894954, 1e-5)
    norms = {
        "lm_head.weight": 1.4525754, "transformer.wte.weight": 0.58127459, "value_embeds.1.weight": 0.19068938,
        "transformer.h.0.attn.c_q.weight": 0.0081402598, "transformer.h.1.attn.c_proj.weight": 3.1713458,
        "transformer.h.1.attn.ve_gate.weight": 0.023429817, "transformer.h.1.mlp.c_fc.weight": 1.5366464,
        "smear_gate.weight": 0.0080767866, "smear_lambda": 0.050318502, "resid_lambdas": 0.026903811,
        "x0_lambdas": 0.073807733,
    }
    for name, expected in norms.items():
        close(f"gradient of nanochat's {name}", norm(grads[name]), expected, 1e-5)

    rates = {"embedding": 0.3, "unembedding": 0.008, "matrix": 0.02, "scalar": 0.5}
    optimizer = optim.muon_and_adamw(model, rates, 0.28, lambda _: 1.0, optim.Schedule(1_000_000))
    optimizer.step()
    after = {
        "transformer.h.0.attn.c_q.weight": (0.0745212361, 2.2581668),
        "transformer.h.1.mlp.c_fc.weight": (0.0967123881, 4.5135652),
        "transformer.h.1.mlp.c_proj.weight": (0.0973848253, 4.5162688),
        "transformer.h.1.attn.ve_gate.weight": (0.0936241001, 0.23973291),
        "transformer.wte.weight": (1.56418478, 32.381853), "lm_head.weight": (0.059050981, 3.4172926),
        "value_embeds.1.weight": (0.825108469, 11.697934), "x0_lambdas": (0.586320996, 0.81232225),
        "smear_lambda": (-0.152057454, 0.152057454),
    }
    params = dict(model.named_parameters())
    for name, (first, size) in after.items():
        close(f"first element of nanochat's {name} after a step", params[name].flatten()[0], first, 1e-4)
        close(f"norm of nanochat's {name} after a step", norm(params[name]), size, 1e-4)
    loss, _ = backward(model, tokens, targets)
    close("nanochat loss after a step", loss, 3.62478232, 1e-4)
    optimizer.step()
    close("nanochat loss after two steps", model(tokens, targets), 2.42535186, 1e-4)


def golden_hatchling():
    """Checks the numbers of bdh-models/tests/bdh_model.rs."""
    settings = {
        "n_layer": 2, "n_embd": 8, "n_head": 2, "mlp_internal_dim_multiplier": 4, "vocab_size": 16, "dropout": 0.0,
    }
    model = model_of("hatchling", settings)
    phases = {"decoder": 0.1, "encoder": 0.2, "encoder_v": 0.3, "lm_head": 0.4, "embed.weight": 0.5}
    wave(model, lambda _, name: phases[name])
    ids = [1, 5, 2, 7, 3, 0, 15, 4, 9]
    tokens, targets = torch.tensor([ids[:-1]]), torch.tensor([ids[1:]])
    logits = model.logits(tokens)[0]
    for column, value in enumerate([0.1221004, 0.0492025, -0.0303547]):
        close(f"BDH logit 0, {column}", logits[0, column], value, 1e-6, absolute=True)
    for column, value in enumerate([-0.3616833, -0.4822684, -0.5375807, -0.5201341, -0.4322897, -0.285937]):
        close(f"BDH logit 7, {column}", logits[7, column], value, 1e-6, absolute=True)
    loss, grads = backward(model, tokens, targets)
    close("BDH loss", loss, 2.55353189, 1e-6)
    norms = {
        "decoder": 0.86003232, "encoder": 0.644240916, "encoder_v": 0.70132786, "lm_head": 0.89666301,
        "embed.weight": 0.445088953,
    }
    for name, expected in norms.items():
        close(f"gradient of BDH's {name}", norm(grads[name]), expected, 1e-5)


def fixture(folder, kind):
    """Checks a fixture of the original: logits, loss, gradients, and five steps of each optimizer."""
    from safetensors.torch import load_file

    expected = json.loads((folder / "expected.json").read_text())
    settings = {name: value for name, value in expected["config"].items() if kind == "hatchling" or name != "dropout"}
    weights = load_file(folder / "weights.safetensors")
    weights.pop("attn.freqs", None)  # BDH's buffer
    io = load_file(folder / "io.safetensors")
    noise = expected["float32_noise"]["vs_float64"]

    def fresh():
        model = model_of(kind, settings)
        model.load_state_dict(weights)
        return model

    name = f"{folder.parent.name}/{folder.name}"
    model = fresh()
    close(f"{name}: logits", (model.logits(io["idx"]) - io["logits"]).abs().max() + 1, 1.0, 1e-5)
    loss, grads = backward(model, io["idx"], io["targets"])
    close(f"{name}: loss", loss, expected["loss"], 1e-5)
    # nanochat's `backout_lambda` has a gradient of many terms that nearly cancel.
    tolerance = max(2 * noise["grad_norm_max_rel"], 1e-4)
    for param, size in expected["grad_norms"].items():
        close(f"{name}: gradient of {param}", norm(grads[param]), size, tolerance)
    if (folder / "grads.safetensors").exists():
        for param, grad in load_file(folder / "grads.safetensors").items():
            close(f"{name}: error of gradient of {param}", norm(grads[param] - grad) / norm(grad) + 1, 1.0, tolerance)

    for key, make in rules(kind).items():
        if key in expected:
            trained(f"{name}: {key}", fresh(), make, io, expected[key], noise["adamw_losses_abs_by_step"])


def rules(kind):
    """Returns the optimizers of the fixtures, by their keys in `expected.json`."""

    def adamw(only_matrices):
        return lambda model: optim.Optimizer(
            optim.adamw(optim.adamw_of(model, 1e-3, (0.9, 0.95), 0.1, only_matrices))
        )

    def muon(model):
        rates = {"embedding": 0.2, "unembedding": 0.004, "matrix": 0.02, "scalar": 0.5}
        return optim.muon_and_adamw(model, rates, 0.1, lambda _: 1.0, optim.Constant())

    return {"adamw": adamw(False), "adamw_decay_2d_only": adamw(True), "muon_adamw": muon}


def trained(what, model, make, io, expected, noise):
    """Checks the losses before each of five steps and after the last, and the norms of the final weights."""
    optimizer = make(model)
    for step, wanted in enumerate(expected["losses_before_each_step_then_after"]):
        loss, _ = backward(model, io["idx"], io["targets"])
        close(f"{what}: loss {step}", loss, wanted, max(2 * noise[step], 1e-4), absolute=True)
        if step < 5:
            optimizer.step()
    for name, size in expected.get("weight_norms_after_5", {}).items():
        close(f"{what}: norm of {name}", norm(dict(model.named_parameters())[name]), size, 1e-4)


def check(folders):
    """Runs all checks. Yields a line for each, with its number of values."""
    golden_nanochat()
    golden_hatchling()
    yield f"nanochat and BDH against the numbers in bdh-models/tests ({checks} values)"
    for folder, kind in folders:
        before = checks
        fixture(folder, kind)
        yield f"{folder.parent.name}/{folder.name} against the fixture of the original ({checks - before} values)"


def main():
    global checks
    root = Path(os.environ.get("BDH_FIXTURES", ROOT.parent / "shared/fixtures"))
    folders = [(path.parent, kind) for name, kind in MODELS.items() for path in (root / name).glob("*/expected.json")]
    if not folders:
        print(f"skipped: GPT-2 is not checked, because {root} has no fixtures; BDH_FIXTURES names their folder")
    for how in ["default", "tuned"]:
        if how == "tuned":
            tune()
        checks = 0
        for done in check(sorted(folders)):
            print(f"checked with {how} PyTorch: {done}")


if __name__ == "__main__":
    main()
