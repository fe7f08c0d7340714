#!/usr/bin/env bash
# The memory checker and the race checker over the tests of the cuda backend; needs a GPU and
# compute-sanitizer, of the CUDA toolkit, on the path:
#
#     bash tests/sanitize_cuda.sh
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for tool in memcheck racecheck; do
    compute-sanitizer --tool $tool --error-exitcode 1 --target-processes all \
        python -m pytest -x -q tests/test_cuda.py tests/test_cuda_gradients.py
done
