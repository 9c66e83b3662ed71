#!/usr/bin/env bash
# Measures three models in f32 and bf16 on a machine with an NVIDIA GPU, ours next to PyTorch's, and prints one table.
# --devices adds a table of scaling over several GPUs.
#
#   benches/gpu.sh                                  # builds, installs PyTorch if it is missing, measures: half an hour
#   benches/gpu.sh --devices 1 2 4 8                # also measures data-parallel training
#   benches/gpu.sh --device cpu --try               # checks that everything works: small models on the CPU, 5 minutes
#   BDH_BIN=target/cuda-link/bin benches/gpu.sh     # uses programs that were linked elsewhere (benches/cuda/link.sh)
#   BDH_TORCH_VENV=~/venv benches/gpu.sh            # uses a PyTorch that is already installed
#
# benches/gpu.sh --help lists further flags; docs/cuda.md lists what the machine needs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

features=cuda
[[ " $* " =~ " --device cpu " || " $* " =~ " --device=cpu " ]] && features=

# `python` runs the script itself. `torch` names a Python that has PyTorch, and is empty if none has it.
python=$(command -v python3) || { echo "gpu.sh: python3 is missing (3.10 or later)" >&2; exit 1; }
venv=${BDH_TORCH_VENV:-$root/target/torch-venv}
if [[ " $* " =~ " --help " ]]; then
    exec "$python" benches/torch/gpu.py --help
fi
has_torch() { "$1" -c 'import torch' 2> /dev/null; }
torch=()
if has_torch "$venv/bin/python"; then
    torch=(--python "$venv/bin/python")
elif [ -z "${BDH_TORCH_VENV-}" ] && has_torch "$python"; then
    torch=(--python "$python")
elif [ -z "${BDH_TORCH_VENV-}" ] && "$python" -m venv "$venv" &&
    "$venv/bin/pip" install --quiet --retries 1 torch numpy; then
    torch=(--python "$venv/bin/python")
fi

programs=${BDH_BIN-}
if [ -z "$programs" ]; then
    programs=target/debug/programs
    mkdir -p "$programs"
    select=(--workspace)
    [ -z "$features" ] || select=(--package bdh-examples --features "$features")
    if ! cargo build "${select[@]}" --bench pytorch --example nanochat_sweep \
        --message-format=json-render-diagnostics > "$programs/messages"; then
        echo "gpu.sh: the build failed. If LLVM cannot be downloaded, use benches/cuda/link.sh (see docs/cuda.md)" >&2
        exit 1
    fi
    "$python" - "$programs" << 'END'
import json, shutil, sys
for line in open(f"{sys.argv[1]}/messages"):
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] in ("pytorch", "nanochat_sweep"):
        shutil.copy2(message["executable"], f"{sys.argv[1]}/{message['target']['name']}")
END
fi
[ -x "$programs/pytorch" ] || { echo "gpu.sh: the program $programs/pytorch does not exist" >&2; exit 1; }

exec "$python" benches/torch/gpu.py --bdh "$programs/pytorch" --sweep "$programs/nanochat_sweep" "${torch[@]}" "$@"
