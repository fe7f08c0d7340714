"""Nothing here is a test, or has examples: `tests/cuda/test_executed.py` runs it."""

collect_ignore_glob = ["*.py"]
