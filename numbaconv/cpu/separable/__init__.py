"""Filters of images: passes along axes, or full kernels, in one walk over tiles that stay in cache.

- `execution`: the passes of a filter become walks;
- `planning`: a walk becomes a job: the roles of the axes, and the sizes of blocks;
- `walk`: what a job says of it, as integers;
- `tasks`: the worker;
- `resampling`: filters between sampling rates, phase by phase;
- `borders`: SciPy's names for what lies outside of the image.

Every pass is `microkernels.tap_sums`.
"""
