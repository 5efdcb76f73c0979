"""CPU kernels that XLA calls, in Numba, for the loops that XLA compiles badly. Each has a reference in pure JAX.

`native` chooses between a kernel and its reference; `compiled`, `call_frame` and `arithmetic` are what kernels are
written with.
"""
