"""The cache of the kernels' machine code is reused, and a damaged or unwritable cache is ignored."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numba
import pytest

from mnist_hpo.kernels.call_frame import pointer_to
from mnist_hpo.kernels.compiled import compile_handler


def _handler(_call: Any) -> Any:
    return pointer_to(0)


@pytest.fixture
def use_cache() -> Iterator[Callable[[Path], None]]:
    before = jax.config.jax_compilation_cache_dir
    yield lambda directory: jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_compilation_cache_dir", before)


def files(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*.nb[ci]")}


def test_machine_code_is_cached_in_jaxs_compilation_cache(use_cache: Callable[[Path], None], tmp_path: Path) -> None:
    use_cache(tmp_path)
    settings = numba.config.CACHE_DIR, numba.config.CPU_FEATURES
    compile_handler(_handler)
    written = files(tmp_path)
    assert {path.suffix for path in written} == {".nbi", ".nbc"}
    assert compile_handler(_handler)
    assert files(tmp_path) == written
    assert settings == (numba.config.CACHE_DIR, numba.config.CPU_FEATURES), "the caller's settings of Numba are kept"


def test_a_damaged_cache_is_ignored(use_cache: Callable[[Path], None], tmp_path: Path) -> None:
    use_cache(tmp_path)
    compile_handler(_handler)
    for path in files(tmp_path):
        path.write_bytes(path.read_bytes()[:30])
    assert compile_handler(_handler)


def test_an_unwritable_cache_is_ignored(use_cache: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    use_cache(tmp_path / "file")
    assert compile_handler(_handler)
    assert not files(Path(__file__).parent), "nothing is cached beside the source"
