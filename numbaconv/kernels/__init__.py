"""Kernels built ahead: `build` makes them, and the archives lie in this folder.

`numbaconv.codegen.built_ahead` finds them here.
"""
