#!/usr/bin/env bash
# All that a CUDA machine is to show, in under eight minutes, from a checkout: nothing is downloaded.
#   PYTHON=python3 benchmarks/gpu_session.sh [FOLDER]
# It runs the tests that need CUDA, one process of DDP over nccl, each stage of training for 50 steps, and inference by
# size, batch, precision and runtime, and prints throughput and peak memory. Logs go to FOLDER, by default a new one. What fails is told, and the rest still runs.
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
logs=${1:-$(mktemp -d)}
mkdir -p "$logs"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=0

# part NAME SECONDS COMMAND...: run it under a limit, keep its log, show its last lines
part() {
  local name=$1 limit=$2 begun=$SECONDS status=0
  shift 2
  echo "== $name"
  timeout "$limit" "$@" >"$logs/$name.log" 2>&1 || status=$?
  if [ "$status" -eq 0 ]; then
    tail -n 12 "$logs/$name.log"
    echo "== $name: passed in $((SECONDS - begun)) s"
  else
    tail -n 40 "$logs/$name.log"
    echo "== $name: FAILED with status $status after $((SECONDS - begun)) s"
    failed=1
  fi
}

part machine 60 "$PYTHON" - <<'PYTHON'
import platform

import monai
import torch

assert torch.cuda.is_available(), "no CUDA device"
print(platform.python_version(), "torch", torch.__version__, "monai", monai.__version__)
print(torch.cuda.get_device_name(), torch.version.cuda, torch.backends.cudnn.version())
PYTHON

part tests 150 "$PYTHON" -m pytest -q -n 0 -p no:cacheprovider -m gpu tests/unit tests/integration

part nccl 60 "$PYTHON" -m torch.distributed.run --nproc_per_node 1 benchmarks/training_speed.py \
  --stages 4 --steps 10 --batch_size 4 --distributed

part stages 200 "$PYTHON" benchmarks/training_speed.py --steps 50

part speed 220 "$PYTHON" benchmarks/speed/gpu.py --seconds 150

echo "== logs are in $logs"
exit "$failed"
