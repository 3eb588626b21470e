#!/usr/bin/env bash
# Train on a CUDA machine that is lent for minutes: nothing is downloaded, and what validated best comes back.
#   PYTHON=python3 benchmarks/gpu_train.sh PACK.tar FOLDER [SECONDS] [OPTION...]
# PACK.tar is what benchmarks/accuracy/pack.py writes. Training stops after SECONDS, by default 420, or when its epochs
# are done; FOLDER then holds model.pt (half precision), history.json and train.log. OPTIONs go to esp-medsam train, as in
#   benchmarks/gpu_train.sh pack.tar out 420 --config benchmarks/accuracy/run6.yaml --pretrained benchmarks/accuracy/next.pt
set -euo pipefail
pack=$(realpath "$1")
out=$2
limit=${3:-420}
shift $(($# < 3 ? $# : 3))
PYTHON=${PYTHON:-python3}
mkdir -p "$out"
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
tar -xf "$pack" -C "$data"
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$PYTHON" "$root/benchmarks/accuracy/bundle.py" "$data/bundle" >"$out/bundle.log"  # of all targets
status=0
timeout --signal=TERM --kill-after=20 "$limit" "$PYTHON" -c \
  'import sys; from esp_medsam.cli.main import main; sys.exit(main(sys.argv[1:]))' \
  train "$data/datalist.json" "$data/run" --bundle "$data/bundle" --input_size 224 --batch_size 64 \
  --learning_rate 1e-3 "$@" >"$out/train.log" 2>&1 || status=$?
tail -n 12 "$out/train.log"
[ -f "$data/run/model.pt" ] || { echo "no epoch was validated in time; see $out/train.log" >&2; exit 1; }
cp "$data/run/model.pt" "$data/run/history.json" "$out/"
[ "$status" -eq 124 ] || exit "$status"
