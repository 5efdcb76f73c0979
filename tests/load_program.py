"""Load bundles in a process with limits: reads a folder's path per line, writes a JSON document per line.

Each document has the `outcome` (`answered`, `refused` or `crashed`), a `message`, and `growth_bytes`: how much the peak
of the resident memory exceeded the memory before the load. A load that uses more than `_CPU_S` of processor time ends
the process.
"""

import json
import os
import re
import resource
import sys
import traceback
import warnings
from pathlib import Path

from mnist_hpo.executors.environment import worker_environment

os.environ.update(worker_environment())

import numpy as np

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.spec.errors import UserError

_CPU_S = 60
_MAX_ANSWERED_PIXELS = 10_000
"""Larger images are not sent to a model: the memory of an answer grows with the image."""

# A warning from NumPy about an overflow is no failure, and must not be printed either.
warnings.simplefilter("ignore")


def main() -> None:
    for line in sys.stdin:
        _limit_cpu()
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # Resets the peak; see proc(5).
        outcome, message = _try(Path(line.rstrip("\n")))
        growth = _memory("VmHWM") - before
        print(json.dumps({"outcome": outcome, "message": message, "growth_bytes": growth}), flush=True)


def _limit_cpu() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + _CPU_S, hard))


def _try(directory: Path) -> tuple[str, str]:
    try:
        bundle = load_bundle(directory)
        n_pixels = int(np.prod(bundle.model.image_shape))
        if n_pixels <= _MAX_ANSWERED_PIXELS:
            images = np.random.default_rng(0).integers(0, 256, (2, n_pixels), np.uint8)
            probabilities = bundle.answer(images).probabilities
            assert probabilities.shape == (2, bundle.model.n_classes)
            assert np.isfinite(probabilities).all()
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-3)
    except UserError as error:
        return "refused", str(error)
    except BaseException:
        return "crashed", traceback.format_exc()
    return "answered", ""


def _memory(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
