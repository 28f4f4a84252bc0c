#!/bin/sh
# Checks and times what a GPU is for: tests/benchmarks/gpu.sh OUTPUT [--device cuda|cpu] [--tiny] [--minutes 5]
# Needs Python with torch, numpy and jaxtyping; neither Ray nor MLflow. OUTPUT takes one JSON object a line.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
output=$(realpath "$1")
shift
cd "$root"
export PYTHONPATH="$root:$root/tests/support"
exec "${PYTHON:-python3}" -m tests.benchmarks.gpu_speed "$output" "$@"
