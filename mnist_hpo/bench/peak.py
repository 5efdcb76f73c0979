"""Measure this machine's fp32 peak: the speed of BLAS matrix products on all cores at once.

Run as a module, it is the process for one core: pinned to the core, it prints the GFLOP/s of the fastest of several
products.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

_SIZES = (512, 1024, 2048)
_REPEATS = 5


def sgemm_peak_gflops(cores: list[int]) -> float:
    """Return the total GFLOP/s over these cores, measured on all of them at the same time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "mnist_hpo.bench.peak", str(core)],
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for core in cores
    ]
    return sum(float(process.communicate()[0]) for process in processes)


def _measure(core: int) -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import numpy as np

    best = 0.0
    for size in _SIZES:
        a, b = np.ones((size, size), np.float32), np.ones((size, size), np.float32)
        out = np.empty_like(a)
        n_products = max(1, 2048 // size) ** 2
        for _ in range(_REPEATS):
            start = time.perf_counter()
            for _ in range(n_products):
                np.matmul(a, b, out=out)
            best = max(best, n_products * 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


if __name__ == "__main__":
    print(_measure(int(sys.argv[1])))
