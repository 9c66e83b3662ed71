"""Continues a checkpoint of nanochat in PyTorch. Prints the losses, and how far each parameter moved, as JSON.

    continue_nanochat.py CHECKPOINT_DIR STEP NUM_ITERATIONS BATCHES

BATCHES is a JSON file: a list of micro-batches, `{"inputs": [[id, ...], ...], "targets": [[id, ...], ...]}`. Model and
optimizer are those of `benches/torch`, settings those of the checkpoint's `meta_*.json`, and schedules those of a run of
NUM_ITERATIONS updates. The output has `losses`, one for each micro-batch, and `moved`: of each parameter's change, [out, in],
the norm, and the sum of its elements times a wave. Needs PyTorch.
"""

import json
import math
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benches/torch"))

import optim  # noqa: E402
from models.nanochat import Config, Model  # noqa: E402

REFERENCE_BATCH = 2**19
REFERENCE_DEPTH = 12


def scaling_params(config):
    """Counts the parameters of the matrices and the head."""
    with torch.device("meta"):
        model = Model(config)
    parts = [model.transformer["h"], model.lm_head]
    return sum(param.numel() for part in parts for param in part.parameters())


def reference(flags, config):
    """Returns the model of depth 12 with the same aspect ratio, head size and vocabulary."""
    width = REFERENCE_DEPTH * flags["aspect_ratio"]
    heads = -(-width // flags["head_dim"])
    return Config(
        config.sequence_len, config.vocab_size, REFERENCE_DEPTH, heads, heads, heads * flags["head_dim"],
        config.window_pattern,
    )


def scaled_decay(meta, config):
    """Returns Muon's weight decay for the run's batch and its compute-optimal number of tokens."""
    flags = meta["user_config"]
    tokens = scaling_params(reference(flags, config)) / scaling_params(config)
    return flags["weight_decay"] * math.sqrt(meta["total_batch_size"] / REFERENCE_BATCH) * tokens


class Schedule:
    """Learning rate, momentum and weight decay by completed updates."""

    def __init__(self, flags, horizon):
        self.warmup, self.last = flags["warmup_steps"], flags["final_lr_frac"]
        self.horizon, self.warmdown = horizon, round(flags["warmdown_ratio"] * horizon)

    def lr(self, step):
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = min((self.horizon - step) / self.warmdown, 1.0)
        return left + (1 - left) * self.last

    def momentum(self, step):
        if step < 400:
            return 0.85 + (0.97 - 0.85) * step / 400
        done = max(step - (self.horizon - self.warmdown), 0) / self.warmdown
        return 0.97 + (0.90 - 0.97) * min(done, 1.0)

    def decay(self, step):
        return 0.5 * (1 + math.cos(math.pi * step / self.horizon))


def optimizer_of(model, meta, horizon):
    flags, scale = meta["user_config"], math.sqrt(meta["total_batch_size"] / REFERENCE_BATCH)
    names = {"embedding": "embedding_lr", "unembedding": "unembedding_lr", "matrix": "matrix_lr", "scalar": "scalar_lr"}
    rates = {name: flags[flag] * scale for name, flag in names.items()}
    schedule = Schedule(flags, horizon)
    return optim.muon_and_adamw(model, rates, scaled_decay(meta, model.config), schedule.lr, schedule)


def load_states(optimizer, model, saved, step):
    """Loads the original's states: AdamW's by parameter, Muon's stacked by shape."""
    matrices = list(model.transformer["h"].parameters())
    shapes = sorted({tuple(param.shape) for param in matrices})
    groups = [
        list(model.lm_head.parameters()), list(model.transformer["wte"].parameters()),
        list(model.value_embeds.parameters()), [model.resid_lambdas], [model.x0_lambdas],
        [model.smear_gate.weight, model.smear_lambda, model.backout_lambda],
    ]
    groups += [[param for param in matrices if tuple(param.shape) == shape] for shape in shapes]
    stacks = {(stack.rows, stack.columns): stack for stack in optimizer.muon.stacks}
    for group, params in zip(saved["param_groups"], groups, strict=True):
        assert len(group["params"]) == len(params)
        if group["kind"] == "muon":
            stack, state = stacks[tuple(params[0].shape)], saved["state"][group["params"][0]]
            assert all(mine is theirs for mine, theirs in zip(stack.params, params, strict=True))
            stack.momentum.copy_(state["momentum_buffer"])
            stack.variance.copy_(state["second_momentum_buffer"])
            continue
        for index, param in zip(group["params"], params, strict=True):
            state = saved["state"][index]
            optimizer.adamw.state[param] = {
                "step": torch.tensor(float(state["step"])), "exp_avg": state["exp_avg"].clone(),
                "exp_avg_sq": state["exp_avg_sq"].clone(),
            }
    optimizer.steps = optimizer.muon.steps = step


def moved(before, after):
    """Returns the norm of a change, and its product with a wave, which depends on the place of each element."""
    change = (after.detach().double() - before.double()).flatten()
    wave = (0.37 * torch.arange(change.numel(), dtype=torch.float64) + 0.1).sin()
    return [change.norm().item(), (change * wave).sum().item()]


def main():
    folder, step, horizon, batches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    meta = json.loads((folder / f"meta_{step:06d}.json").read_text())
    model = Model(Config(**meta["model_config"]))
    weights = torch.load(folder / f"model_{step:06d}.pt", weights_only=True)
    model.load_state_dict(weights, strict=True)
    optimizer = optimizer_of(model, meta, horizon)
    saved = torch.load(folder / f"optim_{step:06d}_rank0.pt", weights_only=True)
    load_states(optimizer, model, saved, step)

    micro_batches = meta["total_batch_size"] // (meta["device_batch_size"] * meta["max_seq_len"])
    losses = []
    for index, batch in enumerate(json.loads(Path(batches).read_text()), 1):
        loss = model(torch.tensor(batch["inputs"]), torch.tensor(batch["targets"]))
        (loss / micro_batches).backward()
        losses.append(loss.item())
        if index % micro_batches == 0:
            optimizer.step()
            optimizer.zero_grad()
    changes = {name: moved(weights[name], param) for name, param in model.named_parameters()}
    print(json.dumps({"losses": losses, "moved": changes}))


if __name__ == "__main__":
    main()
