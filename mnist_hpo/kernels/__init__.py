"""CPU kernels in Numba that XLA calls, for loops that XLA compiles badly. Each has a reference in pure JAX.

`native` chooses between a kernel and its reference; `compiled`, `call_frame` and `arithmetic` are used to write
kernels.
"""
