#!/usr/bin/env bash
# Compares our models with PyTorch's on this machine: speed, time to first step, peak memory.
#
#   benches/torch/run.sh [PRESET ...] [--threads N] [--rounds N] [--json FILE] ...    (compare.py --help)
#
# PyTorch is installed in target/torch-venv, or taken from the virtual environment that BDH_TORCH_VENV names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"

venv=${BDH_TORCH_VENV:-$root/target/torch-venv}
python=$venv/bin/python
if ! "$python" -c 'import torch, safetensors' 2> /dev/null; then
    python3 -m venv "$venv"
    # PyTorch's own index has builds for CPUs alone; the default one's, on Linux, bring CUDA's libraries along.
    "$venv/bin/pip" install --retries 1 --index-url https://download.pytorch.org/whl/cpu torch ||
        "$venv/bin/pip" install torch
    "$venv/bin/pip" install numpy safetensors
fi

# The last line that names the program; the build's own messages go to the terminal.
bdh=$(cargo build --workspace --bench pytorch --message-format=json-render-diagnostics |
    "$python" -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "pytorch":
        print(message["executable"])' | tail -n 1)

"$python" "$here/check.py"
exec "$python" "$here/compare.py" --bdh "$bdh" --python "$python" "$@"
