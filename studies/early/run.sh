#!/usr/bin/env bash
# Trains the runs of the study and reports on them. Called again, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")"

program=(cargo run --quiet --example nanochat_sweep --)
out=${1:-../../runs/study}
"${program[@]}" sweep replicates.yaml --dir "$out/replicates" --jobs 2
"${program[@]}" sweep sweep.yaml --dir "$out/sweep" --jobs 2
"${program[@]}" forecast "$out" --save "$out/runs.json" --html "$out/report.html"
