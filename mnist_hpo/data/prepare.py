"""Prepare a dataset, once per machine: read it from the first available source, check it, split it and cache it.

The sources, in order: the cached dataset, the local folder that the user names, the dataset's own sources.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

from filelock import FileLock, Timeout

from mnist_hpo.data.dataset import FILES, DatasetInfo, Source, digest_of
from mnist_hpo.data.folder import read_unchanged
from mnist_hpo.data.idx import find_idx, idx_sha256, read_idx
from mnist_hpo.data.prepared import PreparedDataset, load_intact, save_metadata
from mnist_hpo.data.sources import LocalFolder
from mnist_hpo.data.splits import Rows, save_split
from mnist_hpo.data.unverified import read_unverified
from mnist_hpo.spec.errors import UserError

Log = Callable[[str], None]

_logger = logging.getLogger(__name__)


def default_root() -> Path:
    """Return the folder of prepared datasets: MNIST_HPO_DATA_DIR, or mnist-hpo/datasets in the user's XDG cache."""
    if own := os.environ.get("MNIST_HPO_DATA_DIR"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist-hpo" / "datasets"


def prepare(
    info: DatasetInfo,
    *,
    source: Path | None = None,
    root: Path | None = None,
    log: Log = _logger.info,
) -> PreparedDataset:
    """Prepare a dataset unless it is prepared already.

    A lock ensures that one process at a time prepares a dataset; the others wait and use its result. A process that is
    killed leaves no incomplete dataset under the dataset's name.

    Args:
        info: the dataset; see `registry.dataset_info`.
        source: a folder with the four IDX files, gzipped or not; by default MNIST_HPO_DATA_SOURCE. If it is given, no
            other source is tried. It is ignored for a dataset that is itself a folder (`dataset: {path: DIR}`).
        root: the folder of prepared datasets; by default `default_root()`.
        log: called with each line of progress; not called if the dataset is prepared already, except to say that
            `source` is not read.

    Raises:
        UserError: a file in `source` is missing or wrong; no source could be reached; the root is not writable; or the
            dataset is a folder whose location is not known, because only the study's record of it is available.
    """
    directory = (default_root() if root is None else root).absolute() / info.name
    with contextlib.suppress(UserError):
        prepared = load_intact(directory, info)
        if source is not None and info.content is None:
            log(f"{info.name}: prepared already, from {prepared.source}; {source} is not read")
        return prepared
    if info.content is not None and not info.sources:
        raise UserError(
            f"{directory}: no prepared dataset here; prepare it from the folder with the study's images and labels: "
            "mnist-hpo data --path DIR"
        )
    return _prepare_under_lock(info, _source_folder(source) if info.content is None else None, directory, log)


def _source_folder(source: Path | None) -> Path | None:
    """Return the absolute path of the local folder that the user named, or None."""
    named = source or os.environ.get("MNIST_HPO_DATA_SOURCE")
    return Path(named).expanduser().absolute() if named else None


def _prepare_under_lock(info: DatasetInfo, source: Path | None, directory: Path, log: Log) -> PreparedDataset:
    root = directory.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _dataset_lock(info, root, log):
            try:
                return load_intact(directory, info)  # Another process may have prepared it while this one waited.
            except UserError as error:
                reason = str(error)
            return _prepare(info, source, directory, reason, log)
    except BrokenPipeError:  # Raised by `log` if its reader has gone.
        raise
    except OSError as error:
        raise UserError(
            f"{info.name}: cannot be prepared in {root}: {error}\n"
            "Free space there, or set MNIST_HPO_DATA_DIR to another folder."
        ) from error


@contextlib.contextmanager
def _dataset_lock(info: DatasetInfo, root: Path, log: Log) -> Generator[None]:
    """Hold the dataset's lock. The operating system releases it when the process ends for any reason."""
    lock = FileLock(root / f"{info.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log(f"{info.name}: another process is preparing it; waiting for it to finish")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _prepare(info: DatasetInfo, source: Path | None, directory: Path, reason: str, log: Log) -> PreparedDataset:
    """Build the dataset in a temporary folder on the same file system, then rename that to `directory`."""
    started = time.monotonic()
    log(f"{reason}; preparing")
    prefix = f".{info.name}.partial-"
    for leftover in directory.parent.glob(f"{prefix}*"):  # Only a killed process leaves one, since we hold the lock.
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=directory.parent) as temporary:
        work = Path(temporary)
        complete = work / info.name
        complete.mkdir()
        label, file_sha256, rows = _read_first_source(info, source, work, reason, log)
        _save(info, label, file_sha256, rows, complete)
        shutil.rmtree(directory, ignore_errors=True)
        complete.rename(directory)
    log(f"{info.name}: prepared in {time.monotonic() - started:.0f} s from {label}, in {directory}")
    return load_intact(directory, info)


def _read_first_source(
    info: DatasetInfo, source: Path | None, work: Path, reason: str, log: Log
) -> tuple[str, dict[str, str], dict[str, Rows]]:
    """Return the label of the first source that has the files, and what `_read` returns."""
    if source is not None:
        log(f"{info.name}: reading the IDX files in {source}")
        local = LocalFolder(source)
        try:
            return local.label, *_read(info, local, work)
        except UserError as error:
            raise UserError(
                f"data source {error}\n"
                f"Put {info.name}'s four files there, gzipped or not"
                + (", or omit the data source to download them." if info.sources else ".")
            ) from error
    failures = [f"prepared data: {reason}", "local folder: none given"]
    for own in info.sources:
        log(f"{info.name}: trying {own.label}")
        try:
            return own.label, *_read(info, own, work)
        except UserError as error:
            log(f"{info.name}: {own.label}: {error}")
            failures.append(f"{own.label}: {error}")
    raise UserError(_no_source_message(info, failures))


def _read(info: DatasetInfo, source: Source, work: Path) -> tuple[dict[str, str], dict[str, Rows]]:
    """Write the files of a source as TFDS records into `work`.

    Returns:
        The digests of the files, and the rows that the records hold: those of the train files and of the test files.

    """
    # Imported here because the import takes half a second, and a prepared dataset does not need it.
    from mnist_hpo.data.builder import build_and_read

    folder = source.fetch(FILES, Path(tempfile.mkdtemp(dir=work)))
    if info.content is not None:
        arrays = read_unchanged(info.content, folder)
    else:
        paths = {name: find_idx(folder, name, info.own_names.get(name)) for name in FILES}
        arrays = (
            {name: read_idx(paths[name], digest) for name, digest in info.file_sha256.items()}
            if info.file_sha256
            else read_unverified(info, paths)
        )
    file_sha256 = dict(info.file_sha256) or {name: idx_sha256(array) for name, array in arrays.items()}
    if info.is_transposed:
        arrays = {name: array.swapaxes(1, 2) if array.ndim > 1 else array for name, array in arrays.items()}
    return file_sha256, build_and_read(info, arrays, work / info.name / "records")


def _no_source_message(info: DatasetInfo, failures: list[str]) -> str:
    if info.content is not None:
        return f"{info.name}: {failures[-1]}"
    names = ", ".join(info.own_names.get(name, name) for name in FILES)
    copy = (
        f"copy the four files {names} (gzipped or not) into a folder, and pass it:"
        f" mnist-hpo data{'' if info.name == 'mnist' else f' {info.name}'} --data-source DIR, or"
        " MNIST_HPO_DATA_SOURCE=DIR."
    )
    tried = [f"{info.name}: no source could be reached. Tried, in this order:", *(f"  - {line}" for line in failures)]
    if not info.sources:
        return "\n".join([*tried, f"To fix this, {copy}"])
    connect = "connect this machine to one of these sources, and run the command again; or"
    return "\n".join([*tried, "To fix this, either:", f"  - {connect}", f"  - {copy}"])


def _save(info: DatasetInfo, source: str, file_sha256: dict[str, str], rows: dict[str, Rows], directory: Path) -> None:
    """Write the arrays of every split, then the metadata."""
    prepared = PreparedDataset(
        name=info.name,
        directory=directory,
        source=source,
        image_shape=info.image_shape,
        file_sha256=file_sha256,
        digest=digest_of(file_sha256),
        splits={
            name: save_split(info, plan, rows["train"], rows["test"], directory / name)
            for name, plan in info.splits.items()
        },
    )
    save_metadata(prepared)
