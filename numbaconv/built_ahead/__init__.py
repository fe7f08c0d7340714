"""Kernels built ahead: `build` makes them, and the archives lie in this folder.

`numbaconv.codegen.archives` finds them here.
"""
