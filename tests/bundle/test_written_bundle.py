"""Writing a bundle replaces the old one as a whole, or leaves it as it was."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from small_bundle import MODEL

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.spec.model import Tensors


def test_writing_replaces_a_whole_folder(directory: Path, weights: Tensors) -> None:
    (directory / "of the old one").touch()
    write_bundle(directory, MODEL, weights, {"trial": 8})
    assert load_bundle(directory).provenance == {"trial": 8}
    assert sorted(file.name for file in directory.iterdir()) == ["model.json", "model.safetensors"]
    assert list(directory.parent.iterdir()) == [directory]


def test_writing_replaces_a_file_of_the_same_name(tmp_path: Path, weights: Tensors) -> None:
    (tmp_path / "model").write_text("damaged by hand")
    write_bundle(tmp_path / "model", MODEL, weights, {"trial": 8})
    assert load_bundle(tmp_path / "model").provenance == {"trial": 8}
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


REWRITE = """
import pathlib, sys
from mnist_hpo.bundle.writing import ModelDescription, write_bundle
import numpy as np
model = ModelDescription("mlp", {"depth": 1, "width": 512}, (28, 28, 1), 10)
number = 0
print("begun", flush=True)
while True:
    number += 1
    write_bundle(pathlib.Path(sys.argv[1]), model, {"w": np.full(200_000, number, np.float32)}, {"number": number})
"""


def test_a_kill_during_replacement_leaves_the_old_or_the_new_bundle(directory: Path) -> None:
    for n_writes in (1, 2, 5, 9):
        with subprocess.Popen([sys.executable, "-c", REWRITE, str(directory)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seen = set[int]()
            while len(seen) < n_writes:
                seen.add(number_of_complete_bundle(directory))
            process.kill()
        number_of_complete_bundle(directory)


def number_of_complete_bundle(directory: Path) -> int:
    """Return the number of the bundle in place; fail if its two files belong to different bundles."""
    # The open folder stays the same one, even while another replaces it.
    folder = os.open(directory, os.O_RDONLY)
    try:
        description = json.loads(read_in(folder, "model.json"))
        content = read_in(folder, "model.safetensors")
    except FileNotFoundError:
        return 0  # The folder was replaced and deleted in the meantime.
    finally:
        os.close(folder)
    assert description["files"]["model.safetensors"]["sha256"] == hashlib.sha256(content).hexdigest()
    return description["provenance"].get("number", 0)


def read_in(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()


def test_a_full_disk_keeps_the_old_bundle(directory: Path, weights: Tensors) -> None:
    """A limit on file sizes makes a write fail in the middle, as a full disk does."""
    program_text = (
        "import pathlib, resource, signal, sys, numpy as np\n"
        "from mnist_hpo.bundle.writing import ModelDescription, write_bundle\n"
        "model = ModelDescription('mlp', {'depth': 1}, (28, 28, 1), 10)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    write_bundle(pathlib.Path(sys.argv[1]), model, {'w': np.zeros(10_000, np.float32)}, {})\n"
        "except OSError:\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program_text, str(directory)]).returncode == 7
    assert load_bundle(directory).provenance == {"study": "small", "trial": 7}
    assert list(directory.parent.iterdir()) == [directory]
