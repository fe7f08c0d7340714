#!/usr/bin/env bash
# The memory checker and the race checker over the tests of the cuda backend; needs a GPU and
# compute-sanitizer, of the CUDA toolkit, on the path:
#
#     bash tests/cuda/sanitize.sh
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for tool in memcheck racecheck; do
    compute-sanitizer --tool $tool --error-exitcode 1 --target-processes all \
        python -m pytest -x -q tests/cuda/test_convolution.py tests/cuda/test_gradients.py
done
