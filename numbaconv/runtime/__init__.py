"""What outlives a call: threads, memory that is used again, and what compiled callers share.

`threads` says how many a call may use, and keeps Numba's threading layers from being misused.
`lent_memory` keeps the memory of large results and scratch, for callers from Python and from
compiled code alike; `result_memory` makes NumPy arrays of it. `shared_table` is the table of
integers that machine code finds by name; `fields` says what lies where. `environment` reads
variables, and tells compiled callers when one changes.

A forked child finds no lock that is held, and launches nothing in parallel where its parent did.
What machine code reads is never freed, so any module may be loaded again.

Read `shared_table` first. Imports: `numbaconv.codegen` and `numbaconv.errors`.
"""
