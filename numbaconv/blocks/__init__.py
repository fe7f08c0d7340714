"""Calls on arrays that are not read as a whole: what each block of a result reads.

`regions`
    The arithmetic along one axis: which elements of the source a range of the result reads.
`calls`
    A call by blocks: its result's shape, its axes, and how a block of it is computed.
`lazy`
    The same calls as graphs of Dask. Only this imports it.
"""
