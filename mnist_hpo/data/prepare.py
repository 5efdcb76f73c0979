"""Makes a dataset ready, once a machine: from the first source that has it, checked, split and cached.

The sources in order: what is prepared already; the local folder that the user names; the dataset's own sources.
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

from mnist_hpo.data.dataset import DatasetInfo, Source
from mnist_hpo.data.folder import read_unchanged
from mnist_hpo.data.idx import find_idx, read_idx
from mnist_hpo.data.prepared import PreparedDataset, load_intact, save_metadata
from mnist_hpo.data.sources import LocalFolder
from mnist_hpo.data.splits import Rows, save_split
from mnist_hpo.spec.errors import UserError

Log = Callable[[str], None]

_logger = logging.getLogger(__name__)


def default_root() -> Path:
    """Where datasets are kept: MNIST_HPO_DATA_DIR, else mnist-hpo/datasets in the user's cache (XDG)."""
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
    """Makes sure that a dataset is ready; returns at once if it is.

    Processes that prepare at the same time take turns, and all but the first use what the first made. A process that
    dies midway leaves nothing that a later one would trust.

    Args:
        info: the dataset; see `registry.dataset_info`.
        source: a folder with the four IDX files, gzipped or not; by default MNIST_HPO_DATA_SOURCE. Where one is
            named, the network is left alone. A folder that a study file names is read from there and nowhere else.
        root: where datasets are kept; by default `default_root()`.
        log: told, in whole lines, what is going on; told nothing if nothing is to be done.

    Raises:
        UserError: the named folder lacks a file or has a wrong one; no source could be reached; the root cannot be
            written; of a folder that a study names, only the record is at hand.
    """
    directory = (default_root() if root is None else root).absolute() / info.name
    with contextlib.suppress(UserError):
        prepared = load_intact(directory, info)
        if source is not None and info.content is None:
            log(f"{info.name}: prepared already, from {prepared.source}; {source} is not read")
        return prepared
    if info.content is not None and not info.sources:
        raise UserError(
            f"{directory}: nothing prepared here; prepare it from the folder that holds the study's images and labels: "
            "mnist-hpo data --path DIR"
        )
    return _prepare_in_turn(info, _named_folder(source) if info.content is None else None, directory, log)


def _named_folder(source: Path | None) -> Path | None:
    """The local folder that the user named, if any, as an absolute path."""
    named = source or os.environ.get("MNIST_HPO_DATA_SOURCE")
    return Path(named).expanduser().absolute() if named else None


def _prepare_in_turn(info: DatasetInfo, source: Path | None, directory: Path, log: Log) -> PreparedDataset:
    root = directory.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _exclusively(info, root, log):
            try:
                return load_intact(directory, info)  # by the process that had the turn before
            except UserError as error:
                unprepared = str(error)
            return _prepare(info, source, directory, unprepared, log)
    except BrokenPipeError:  # not ours: who read the log has gone
        raise
    except OSError as error:
        raise UserError(
            f"{info.name}: cannot be prepared in {root}: {error}\n"
            "Make room there, or name another place with MNIST_HPO_DATA_DIR."
        ) from error


@contextlib.contextmanager
def _exclusively(info: DatasetInfo, root: Path, log: Log) -> Generator[None]:
    """Holds the dataset's lock. The kernel frees it when the process ends, however it ends."""
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


def _prepare(info: DatasetInfo, source: Path | None, directory: Path, unprepared: str, log: Log) -> PreparedDataset:
    """Builds the dataset in a temporary folder beside its place, and moves it there when it is whole."""
    started = time.monotonic()
    log(f"{unprepared}; preparing")
    prefix = f".{info.name}.partial-"
    for leftover in directory.parent.glob(f"{prefix}*"):  # of a process that was killed: we hold its lock now
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=directory.parent) as temporary:
        work = Path(temporary)
        whole = work / info.name
        whole.mkdir()
        label, rows = _rows_from_first_source(info, source, work, unprepared, log)
        _save(info, label, rows, whole)
        shutil.rmtree(directory, ignore_errors=True)
        whole.rename(directory)
    log(f"{info.name}: prepared in {time.monotonic() - started:.0f} s from {label}, in {directory}")
    return load_intact(directory, info)


def _rows_from_first_source(
    info: DatasetInfo, source: Path | None, work: Path, unprepared: str, log: Log
) -> tuple[str, dict[str, Rows]]:
    """The rows of the train files and of the test files, and the label of the source that had them."""
    if source is not None:
        log(f"{info.name}: reading the IDX files in {source}")
        local = LocalFolder(source)
        try:
            return local.label, _read(info, local, work)
        except UserError as error:
            raise UserError(
                f"data source {error}\n"
                f"Put {info.name}'s four files there, gzipped or not, or name no data source to have them fetched."
            ) from error
    tried = [f"prepared data: {unprepared}", "local folder: none named"]
    for own in info.sources:
        log(f"{info.name}: trying {own.label}")
        try:
            return own.label, _read(info, own, work)
        except UserError as error:
            log(f"{info.name}: {own.label}: {error}")
            tried.append(f"{own.label}: {error}")
    raise UserError(_nowhere(info, tried))


def _read(info: DatasetInfo, source: Source, work: Path) -> dict[str, Rows]:
    """The rows of the files of a source, by way of the records, which are written into `work`."""
    # Here and not above: the import takes half a second, which a prepared dataset need not cost.
    from mnist_hpo.data.builder import build_and_read

    folder = source.fetch(info.file_sha256, Path(tempfile.mkdtemp(dir=work)))
    if info.content is not None:
        arrays = read_unchanged(info.content, folder)
    else:
        paths = {name: find_idx(folder, name) for name in info.file_sha256}
        arrays = {name: read_idx(paths[name], digest) for name, digest in info.file_sha256.items()}
    return build_and_read(info, arrays, work / info.name / "records")


def _nowhere(info: DatasetInfo, tried: list[str]) -> str:
    if info.content is not None:
        return f"{info.name}: {tried[-1]}"
    return "\n".join(
        [
            f"{info.name}: no source could be reached. Tried, in this order:",
            *(f"  - {line}" for line in tried),
            "Two ways out:",
            "  - connect this machine to one of these sources, and run the command again; or",
            f"  - copy the four files {', '.join(info.file_sha256)} (gzipped or not) into a folder, and name it:"
            " mnist-hpo data --data-source DIR, or MNIST_HPO_DATA_SOURCE=DIR.",
        ]
    )


def _save(info: DatasetInfo, source: str, rows: dict[str, Rows], directory: Path) -> None:
    """Writes the arrays of every split, and the metadata last."""
    prepared = PreparedDataset(
        name=info.name,
        directory=directory,
        source=source,
        image_shape=info.image_shape,
        file_sha256=dict(info.file_sha256),
        digest=info.digest,
        splits={
            name: save_split(info, plan, rows["train"], rows["test"], directory / name)
            for name, plan in info.splits.items()
        },
    )
    save_metadata(prepared)
