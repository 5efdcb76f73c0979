"""Output options write to files, links, devices and pipes, and never destroy anything else."""

import os
import shlex
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from command import PROGRAM, Folder, assert_refused

from mnist_hpo.cli.output_file import CSV_TABLE, HTML_PAGE, PARQUET_TABLE, OutputFile, check_outputs
from mnist_hpo.spec.errors import UserError

COMMANDS = {
    "report -o": ["report", "small", "-o"],
    "compare --csv": ["compare", "--runs", "small:0", "small:1", "--csv"],
    "compare --html": ["compare", "--runs", "small:0", "small:1", "--html"],
    "trials --csv": ["trials", "small", "--csv"],
    "trials --parquet": ["trials", "small", "--parquet"],
}
PAGE = b'<html><head><meta name="generator" content="mnist-hpo">'
DEV_FULL = os.makedev(1, 7)


@pytest.fixture
def recorded(finished: Folder, tmp_path: Path) -> Folder:
    """A copy of the finished study, to write into."""
    folder = Folder(tmp_path)
    finished.copy_record(folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_study_file_is_replaced_only_with_force(recorded: Folder, command: list[str]) -> None:
    study = recorded.path / "small.yaml"
    study.chmod(0o640)
    text = study.read_bytes()
    link = recorded.path / "link"
    link.symlink_to("small.yaml")
    assert_refused(recorded.call(*command, "link"), "link", "is not a", "--force")
    assert study.read_bytes() == text
    assert recorded.call(*command, "link", "--force").code == 0
    assert link.is_symlink()
    assert study.read_bytes() != text
    assert stat.S_IMODE(study.stat().st_mode) == 0o640
    assert not list(recorded.path.glob(".mnist-hpo-*"))


@pytest.mark.parametrize(
    ("command", "name"), list(zip(COMMANDS.values(), ["a.html", "a.csv", "a.html", "a.csv", "a"], strict=True))
)
def test_an_earlier_result_is_replaced_without_force(recorded: Folder, command: list[str], name: str) -> None:
    assert recorded.call(*command, name).code == 0
    first = (recorded.path / name).read_bytes()
    assert recorded.call(*command, name).code == 0
    assert (recorded.path / name).read_bytes() == first


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_full_device_is_reported_and_not_replaced(recorded: Folder, command: list[str]) -> None:
    try:
        # A copy of /dev/full, since a bug would destroy the original for the whole machine.
        os.mknod(recorded.path / "full", stat.S_IFCHR | 0o666, DEV_FULL)
    except PermissionError:
        pytest.skip("only root can make a device")
    assert_refused(recorded.call(*command, "full"), "full: cannot be written: No space left on device")
    left = (recorded.path / "full").stat()
    assert stat.S_ISCHR(left.st_mode)
    assert left.st_rdev == DEV_FULL


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_is_appended_to_if_the_shell_appends(recorded: Folder, name: str) -> None:
    kept = recorded.path / "kept.csv"
    kept.write_text("before\n")
    command = shlex.join([str(PROGRAM), *COMMANDS["trials --csv"], name])
    shell(recorded, f"{command} >> kept.csv")
    before, header, *rows = kept.read_text().splitlines()
    assert before == "before"
    assert header.startswith("number,state,")
    assert len(rows) == 8


def test_a_report_can_be_piped(recorded: Folder) -> None:
    page = shell(recorded, f"{PROGRAM} report small -o - | cat")
    assert page.startswith("<!DOCTYPE html>")
    assert page.endswith("</html>\n")
    assert not (recorded.path / "-").exists()


def test_a_result_can_be_written_to_a_process_substitution(recorded: Folder) -> None:
    shell(recorded, f"{PROGRAM} trials small --csv >(cat > through.csv) && wait $!")
    assert (recorded.path / "through.csv").read_text().startswith("number,state,")


def test_a_failed_write_keeps_the_old_report(recorded: Folder) -> None:
    page = recorded.path / "small.html"
    page.write_bytes(PAGE)
    # The limit is above what SQLite needs to read and below the size of the report.
    outcome = subprocess.run(
        ["bash", "-c", f"ulimit -f 500; exec {PROGRAM} report small"],
        cwd=recorded.path,
        env=recorded.environment(),
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 2, outcome
    assert outcome.stderr == "error: --output small.html: cannot be written: File too large\n"
    assert page.read_bytes() == PAGE
    assert not list(recorded.path.glob(".mnist-hpo-*"))


def test_an_unwritable_path_is_reported_before_the_study_is_read(folder: Folder) -> None:
    for option, value in (("--csv", "nowhere/a.csv"), ("--parquet", "x" * 300), ("--csv", ".")):
        assert_refused(folder.call("trials", "small", option, value), f"{option} {value[:60]}")


def test_two_results_in_one_file_are_refused(folder: Folder) -> None:
    both = folder.call("trials", "small", "--csv", "a", "--parquet", "./a")
    assert_refused(both, "--csv and --parquet name the same file")
    mixed = folder.call("trials", "small", "--csv", "-", "--json")
    assert_refused(mixed, "--csv and --json would mix on standard output")


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    output(tmp_path / "a.html").write(PAGE)
    (tmp_path / "b.html").touch()
    assert (tmp_path / "a.html").stat().st_mode == (tmp_path / "b.html").stat().st_mode


def test_a_replaced_file_keeps_its_owner_and_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(PAGE)
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    output(path).write(PAGE * 2)
    after = path.stat()
    assert path.read_bytes() == PAGE * 2
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_dangling_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/new.html")
    output(tmp_path / "link").write(PAGE)
    assert (tmp_path / "folder" / "new.html").read_bytes() == PAGE
    assert (tmp_path / "link").is_symlink()


def test_a_named_pipe_is_written_as_a_stream(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=output(pipe).write, args=(PAGE,))
    writer.start()
    assert pipe.read_bytes() == PAGE
    writer.join()
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("kind", "name", "content", "is_replaced"),
    [
        (HTML_PAGE, "a.html", b"", True),
        (HTML_PAGE, "a.html", PAGE, True),
        (HTML_PAGE, "a", PAGE, True),
        (HTML_PAGE, "a.html", b"<!DOCTYPE html><html><head>", False),
        (CSV_TABLE, "a.csv", b"number,state\n", True),
        (CSV_TABLE, "a.CSV", b"x", True),
        (CSV_TABLE, "a.txt", b"number,state\n", False),
        (CSV_TABLE, "a.csv", b"SQLite format 3\0", False),
        (PARQUET_TABLE, "a", b"PAR1...", True),
        (PARQUET_TABLE, "a.parquet", b"name: small", False),
    ],
)
def test_only_a_file_of_the_same_kind_is_replaced(
    tmp_path: Path, kind: object, name: str, content: bytes, is_replaced: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert isinstance(kind, type(HTML_PAGE))
    place = OutputFile("--csv", path, kind)
    if is_replaced:
        place.write(b"new")
    else:
        with pytest.raises(UserError, match="--force"):
            place.check()
        with pytest.raises(UserError, match="--force"):
            place.write(b"new")
    assert path.read_bytes() == (b"new" if is_replaced else content)


def test_a_file_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    place = output(tmp_path / "a.html")
    place.check()
    place.path.write_text("notes")
    with pytest.raises(UserError, match="exists and is not a page"):
        place.write(PAGE)
    assert place.path.read_text() == "notes"


def test_paths_that_are_not_files_are_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    expected = {
        tmp_path: "is a folder",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / "nowhere" / "a.html": "there is no folder",
        tmp_path / "file" / "a.html": "Not a directory",
        tmp_path / ("x" * 256): "File name too long",
        Path("/proc/a.html"): "cannot create a file in the folder /proc",
        Path("/dev/fd/999"): "Bad file descriptor",
    }
    for path, problem in expected.items():
        with pytest.raises(UserError, match=problem):
            output(path, force=True).check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_socket_and_a_block_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")  # A relative path, since the length of a socket's path is limited.
        with pytest.raises(UserError, match="is a disk or a socket"):
            output(tmp_path / "socket", force=True).check()
    try:
        os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("only root can make a device")
    with pytest.raises(UserError, match="is a disk or a socket"):
        output(tmp_path / "disk", force=True).check()


def test_a_file_descriptor_that_the_program_opened_itself_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "database").open("wb") as database:
        with pytest.raises(UserError, match="is not open"):
            output(Path(f"/dev/fd/{database.fileno()}")).check()
        os.set_inheritable(database.fileno(), True)
        output(Path(f"/dev/fd/{database.fileno()}")).write(PAGE)
    assert (tmp_path / "database").read_bytes() == PAGE


def test_two_outputs_to_one_file_through_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    places = [OutputFile("--csv", tmp_path / "a", CSV_TABLE), OutputFile("--html", tmp_path / "link", HTML_PAGE)]
    with pytest.raises(UserError, match="--csv and --html name the same file"):
        check_outputs(places, prints_json=False)


def output(path: Path, *, force: bool = False) -> OutputFile:
    return OutputFile("--output", path, HTML_PAGE, force)


def shell(folder: Folder, command: str) -> str:
    """Return what a bash command line prints to standard output."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder.path,
        env=folder.environment(),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
