"""Writes the checkpoint in this folder, in the form of nanochat's: needs PyTorch.

Weights are in bf16 under the names of a compiled model. Element k of a tensor is `((7 k + seed) mod 13 - 6) / 8`, which is
exact in bf16; seeds are those of `tests/nanochat_tiny.rs`. The archives are compressed, because PyTorch's are not.
"""

import io
import json
import zipfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
WIDTH, VOCAB, LAYERS, HEADS, STEP = 24, 64, 2, 2, 3


def tensor(seed, *shape, dtype=torch.float32):
    k = torch.arange(torch.Size(shape).numel())
    return (((7 * k + seed) % 13 - 6) / 8).reshape(shape).to(dtype)


def save(value, name):
    """Saves a value as `torch.save` does, with compressed files."""
    plain = io.BytesIO()
    torch.save(value, plain)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(HERE / name, "w", zipfile.ZIP_DEFLATED) as written:
        for info in read.infolist():
            written.writestr(zipfile.ZipInfo(info.filename), read.read(info), zipfile.ZIP_DEFLATED, 9)


scalars = [("resid_lambdas", (LAYERS,)), ("x0_lambdas", (LAYERS,)), ("smear_lambda", (1,)), ("backout_lambda", (1,))]
table = (VOCAB, WIDTH)
blocks = []
for layer in range(LAYERS):
    names = [(f"attn.{name}", (WIDTH, WIDTH)) for name in ["c_q", "c_k", "c_v", "c_proj"]]
    names += [("attn.ve_gate", (HEADS, 12))] if layer == LAYERS - 1 else []
    names += [("mlp.c_fc", (4 * WIDTH, WIDTH)), ("mlp.c_proj", (WIDTH, 4 * WIDTH))]
    blocks += [(f"transformer.h.{layer}.{name}.weight", shape) for name, shape in names]
params = dict(
    [*scalars, ("transformer.wte.weight", table), *blocks, ("lm_head.weight", table), ("smear_gate.weight", (1, 24)),
     ("value_embeds.1.weight", table)]
)
weights = {
    f"_orig_mod.{name}": tensor(seed, *shape, dtype=torch.bfloat16) for seed, (name, shape) in enumerate(params.items())
}
save(weights, f"model_{STEP:06d}.pt")

groups = [
    ["lm_head.weight"], ["transformer.wte.weight"], ["value_embeds.1.weight"], ["resid_lambdas"], ["x0_lambdas"],
    ["smear_gate.weight", "smear_lambda", "backout_lambda"],
]
matrices = [(shape, name) for name, shape in blocks]
stacks = [[name for shape, name in matrices if shape == wanted] for wanted in sorted({shape for shape, _ in matrices})]
state, param_groups, place = {}, [], 0
for index, names in enumerate(groups + stacks):
    places = list(range(place, place + len(names)))
    is_muon = index >= len(groups)
    if is_muon:
        rows, columns = params[names[0]]
        line = (rows, 1) if rows >= columns else (1, columns)
        state[place] = {
            "momentum_buffer": tensor(place, len(names), rows, columns),
            "second_momentum_buffer": tensor(place + 5, len(names), *line),
        }
    else:
        for at, name in zip(places, names):
            state[at] = {
                "step": STEP, "exp_avg": tensor(at, *params[name], dtype=torch.bfloat16),
                "exp_avg_sq": tensor(at + 5, *params[name]),
            }
    param_groups.append({"kind": "muon" if is_muon else "adamw", "lr": 0.02, "params": places})
    place += len(names)
save({"state": state, "param_groups": param_groups}, f"optim_{STEP:06d}_rank0.pt")

config = {
    "sequence_len": 16, "vocab_size": 60, "n_layer": LAYERS, "n_head": HEADS, "n_kv_head": HEADS, "n_embd": WIDTH,
    "window_pattern": "SL",
}
meta = {
    "step": STEP, "val_bpb": None, "model_config": config, "user_config": {"depth": LAYERS, "target_flops": -1.0},
    "device_batch_size": 2, "max_seq_len": 16, "total_batch_size": 64,
    "dataloader_state_dict": {"pq_idx": 0, "rg_idx": 5, "epoch": 1},
    "loop_state": {"min_val_bpb": float("inf"), "smooth_train_loss": 1.5, "total_training_time": 0.25},
}
(HERE / f"meta_{STEP:06d}.json").write_text(json.dumps(meta, indent=2))
