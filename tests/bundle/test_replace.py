"""Replacing a folder is atomic: after a kill at any time the old or the new folder is there, complete."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_hpo.bundle import replace as module
from mnist_hpo.bundle.replace import replacing

FILES = [f"file-{index}" for index in range(20)]

REPLACE_FOREVER = """\
import itertools, sys
from pathlib import Path
from mnist_hpo.bundle.replace import replacing
print("ready", flush=True)
for generation in itertools.count():
    with replacing(Path(sys.argv[1])) as new:
        for index in range(20):
            (new / f"file-{index}").write_text(f"{sys.argv[2]} {generation}")
"""


def write(folder: Path, text: str) -> None:
    with replacing(folder) as new:
        for name in FILES:
            (new / name).write_text(text)


def read(folder: Path) -> str:
    """Return the text that all files of the folder must share."""
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    (text,) = {(folder / name).read_text() for name in FILES}
    return text


def fail_midway(folder: Path, error: type[BaseException]) -> None:
    with replacing(folder) as new:
        (new / FILES[0]).write_text("new")
        assert read(folder) == "old"
        raise error


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for a folder, on a file system that can exchange two names atomically, or (as NFS) cannot."""
    if not request.param:
        monkeypatch.setattr(module, "_exchange", lambda _one, _other: False)
    return tmp_path / "champions" / "trial-00001"


def test_the_new_folder_replaces_the_old_one(folder: Path) -> None:
    for text in ("first", "second", "third"):
        write(folder, text)
        assert read(folder) == text
        assert list(folder.parent.iterdir()) == [folder]


def test_an_error_keeps_the_old_folder(folder: Path) -> None:
    with pytest.raises(KeyError), replacing(folder):
        raise KeyError
    assert list(folder.parent.iterdir()) == []
    write(folder, "old")
    for error in (KeyError, KeyboardInterrupt):
        with pytest.raises(error):
            fail_midway(folder, error)
        assert read(folder) == "old"
        assert list(folder.parent.iterdir()) == [folder]


def test_a_kill_at_any_time_leaves_a_complete_folder(tmp_path: Path) -> None:
    folder, draw = tmp_path / "champions" / "trial-00001", random.Random(10)
    write(folder, "first")
    for attempt in range(8):
        command = [sys.executable, "-c", REPLACE_FOREVER, folder, str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0, 0.02))  # The test must pass for any delay.
            process.kill()
        read(folder)
    write(folder, "last")
    assert read(folder) == "last"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_kill_between_two_renames_loses_nothing(folder: Path) -> None:
    write(folder, "old")
    other = folder.with_name("trial-00002")
    folder.rename(folder.with_name(f".{folder.name}.old"))
    (folder.parent / f".{folder.name}.new").mkdir()
    write(other, "other")
    assert read(folder) == "old"
    assert read(other) == "other"
    assert sorted(folder.parent.iterdir()) == [folder, other]
