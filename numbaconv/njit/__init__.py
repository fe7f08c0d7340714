"""Calls from users' own ``@njit`` code.

The life of a call. When Numba compiles a caller it asks `function_overloads`, one overload a public
function (`public_function`: what it refuses is told first); `call_site` types the call, makes a
text of it, and emits the few instructions that write a *request* on the caller's stack and enter
twice. At run time the first entry finds the *record* of the request and lends the memory of the
result, the second carries out the record's *steps* (`enter`, `steps`): no Python, no lock. A
request that has no record yet asks Python: `planner` rebuilds the call (`request`), plans it with
the functions that serve Python's callers, writes its steps down (`functions`, `recipe`) and
publishes the record.

Only machine code of the caller raises, from the number and message that `exceptions` leaves in the
request. Two things never change: where a request says its layout, and where it takes a message; by
them a caller that another version compiled is told so.

Read `protocol` (what caller and library agree on), `call_site`, `enter`, `steps`, then `planner`.
Filters have typing of their own (`filter_overloads`, `filter_site`, `composed`), and their steps
are what the public function does while it is captured (`filters`). `scipy_names` waits for SciPy.
What a typing function is told of an argument: `kinds`.

`overloads` tells Numba of all this, and `door` loads it at the first call. Imports: anything of the
package but `numbaconv.cli`.
"""
