"""CPU kernels in Numba that XLA calls, for loops that XLA compiles to slow code. Each has a reference in pure JAX.

`native` chooses between a kernel and its reference. Kernels are written with `compiled`, `call_frame` and `arithmetic`.
"""
