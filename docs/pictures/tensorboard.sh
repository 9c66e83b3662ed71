#!/usr/bin/env bash
# Makes the pictures in docs/tensorboard.md: three real runs, in a real TensorBoard, photographed by Chromium.
# Needs `tensorboard` and `python3` with Pillow on the PATH, and Chromium (CHROMIUM names it).
set -euo pipefail
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
trap 'kill "$board" 2>/dev/null || true; rm -rf "$scratch"' EXIT

for lr in 0.03 0.1 0.3; do
    cargo run --quiet --example tensorboard -- --runs "$scratch/runs" --lr "$lr"
done

(cd "$scratch" && exec tensorboard --logdir runs --host 127.0.0.1 --port 0 2>log) &
board=$!
until url=$(grep -o 'http://127.0.0.1:[0-9]*' "$scratch/log"); do sleep 0.2; done
sleep 5 # it reads the runs

# shot NAME PAGE WIDTHxHEIGHT: pages draw themselves for a while after they are loaded.
shot() {
    "${CHROMIUM:-chromium}" --headless --no-sandbox --hide-scrollbars --no-proxy-server \
        --enable-unsafe-swiftshader --user-data-dir="$scratch/profile" --virtual-time-budget=30000 \
        --window-size="${3/x/,}" --screenshot="$scratch/$1.png" "$url/?darkMode=false#$2" 2>/dev/null
    python3 - "$scratch/$1.png" "docs/pictures/tensorboard-$1.png" <<'PYTHON'
import sys
from PIL import Image

image = Image.open(sys.argv[1]).convert("RGB").quantize(64, dither=Image.Dither.NONE)
image.save(sys.argv[2], optimize=True)
PYTHON
}

shot scalars 'scalars&tagFilter=loss' 1300x740
shot histograms histograms 1300x660
shot text text 1300x560
shot hparams hparams 1800x340
ls -l docs/pictures/*.png
