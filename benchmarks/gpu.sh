#!/bin/sh
# Tests and benchmarks on one GPU, without a network; about ten minutes on an H100 with 16 cores.
# usage: sh benchmarks/gpu.sh [OUTPUT_DIR] [tests] [NAME ...]
#
# Writes tests.txt, gpu.json and gpu.md into OUTPUT_DIR (default: runs/gpu). Without further words everything is run;
# otherwise only what is named: tests, gpu_passes, gpu_step, gpu_inference.
# PYTHON (python3) needs what requirements.txt lists, with a torch for CUDA (2.11 has been tried), and pytest with
# pytest-timeout; ZeRO is tested if deepspeed is installed, and tests run side by side if pytest-xdist is.
set -u
here=$(cd "$(dirname "$0")" && pwd)
repository=$(dirname "$here")
python=${PYTHON:-python3}
out=${1:-$repository/runs/gpu}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- tests gpu_passes gpu_step gpu_inference
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
cd "$repository" || exit 2
status=0

"$python" -c "import torch; assert torch.cuda.is_available()" 2>/dev/null || {
    echo "error: $python: torch sees no GPU (PYTHON names another Python)" >&2
    exit 2
}
if [ "$1" = tests ]; then
    shift
    side_by_side=$("$python" -c "import os, xdist; print(f'-n{min(8, os.cpu_count())}')" 2>/dev/null)
    TEST_DEVICE=cuda "$python" -m pytest -q -p no:cacheprovider $side_by_side tests/test_cuda.py \
        >"$out/tests.txt" 2>&1 || status=1
    tail -n 30 "$out/tests.txt"
fi
[ $# = 0 ] || "$python" "$here/gpu.py" "$out" --only "$@" || status=1
exit $status
