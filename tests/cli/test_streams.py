"""Standard output and standard error may be full, closed, or no longer read."""

import re
import shlex
import subprocess
from dataclasses import dataclass

import pytest
from command import PROGRAM, Folder

COMMANDS = {
    "help": ["--help"],
    "a verb's help": ["run", "--help"],
    "version": ["--version"],
    "nothing": [],
    "status": ["status", "small"],
    "status --json": ["status", "small", "--json"],
    "status --watch": ["status", "small", "--watch"],
    "trials": ["trials", "small"],
    "trials --json": ["trials", "small", "--json"],
    "trials --csv -": ["trials", "small", "--csv", "-"],
    "best": ["best", "small"],
    "best --json": ["best", "small", "--json"],
    "compare": ["compare", "--runs", "small:0", "small:1"],
    "compare --json": ["compare", "--runs", "small:0", "small:1", "--json"],
    "report -o -": ["report", "small", "-o", "-"],
    "data": ["data"],
    "data --json": ["data", "--json"],
}
FEW = {name: COMMANDS[name] for name in ("help", "version", "status", "status --json", "trials --csv -")}
SLOWER = [
    pytest.param(command, id=name, marks=[] if name in FEW else pytest.mark.slow) for name, command in COMMANDS.items()
]


@pytest.fixture(scope="module")
def recorded(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("recorded"))
    finished.copy_record(folder)
    return folder


@dataclass(frozen=True)
class Piped:
    code: int
    out: str
    err: str


def redirected(folder: Folder, command: list[str], redirection: str) -> Piped:
    """Run the command with a bash redirection, or into a pipe."""
    line = f"{shlex.join([str(PROGRAM), *command])} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder.path, env=folder.environment(), capture_output=True, text=True
    )
    for sign in ("Traceback", "Exception ignored", "internal error"):
        assert sign not in done.stderr + done.stdout
    return Piped(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", SLOWER)
def test_a_full_standard_output_is_an_error(recorded: Folder, command: list[str]) -> None:
    outcome = redirected(recorded, command, "> /dev/full")
    assert outcome.code == 2
    assert outcome.err == "error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", SLOWER)
def test_a_closed_standard_output_is_an_error(recorded: Folder, command: list[str]) -> None:
    outcome = redirected(recorded, command, ">&-")
    assert outcome.code == 2
    assert outcome.err == "error: standard output is closed; send it to a file, or to /dev/null\n"


@pytest.mark.parametrize("command", SLOWER)
def test_a_closed_pipe_ends_the_command_silently(recorded: Folder, command: list[str]) -> None:

    outcome = redirected(recorded, command, "| exec 0<&-")
    assert outcome.code in (0, 1)  # 0 only if all output fitted into the pipe's buffer.
    assert outcome.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-"])
def test_an_unwritable_standard_error_does_not_affect_the_result(recorded: Folder, redirection: str) -> None:
    usual = redirected(recorded, ["status", "small", "--json"], "")
    assert redirected(recorded, ["status", "small", "--json"], redirection) == usual
    table = redirected(recorded, ["trials", "small", "--csv", "trials.csv"], redirection)
    assert (table.code, table.out) == (0, "")
    refused = redirected(recorded, ["status", "smal"], redirection)
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.slow
def test_a_run_continues_if_standard_error_is_full(folder: Folder) -> None:
    outcome = redirected(folder, ["run", "small.yaml"], "2> /dev/full")
    assert outcome.code == 0
    assert "8 of 8 trials ended" in outcome.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_characters_missing_in_the_encoding_are_replaced(recorded: Folder, encoding: str) -> None:
    outcome = recorded.call("trials", "small", PYTHONIOENCODING=encoding)
    assert (outcome.code, outcome.err) == (0, "")
    # A trial that failed in its first epoch has a dash in place of its loss, here replaced by a question mark.
    assert re.search(r"failed \(diverged.*\?", outcome.out)


@pytest.mark.parametrize(
    "environment",
    [{"COLUMNS": "1"}, {"COLUMNS": "0"}, {"COLUMNS": "x"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"LC_ALL": "C"}],
    ids=str,
)
def test_output_does_not_depend_on_the_terminal(recorded: Folder, environment: dict[str, str]) -> None:
    usual = recorded.call("trials", "small")
    assert recorded.call("trials", "small", **environment) == usual


@pytest.mark.slow
def test_every_verb_works_with_warnings_as_errors(folder: Folder) -> None:
    folder.write_study("n_trials: 8", "n_trials: 2")
    folder.write_study("n_trials: 8", "n_trials: 2", "name: small", "name: other", name="other.yaml")
    verbs = (
        ["data"],
        ["run", "small.yaml"],
        ["run", "other.yaml"],
        ["status", "small"],
        ["trials", "small", "--csv", "a.csv", "--parquet", "a.parquet"],
        ["best", "small"],
        ["retrain", "small", "--seeds", "1"],
        ["compare", "small", "other", "--html", "compared.html"],
        ["report", "small"],
        ["sync", "small"],
    )
    for verb in verbs:
        outcome = folder.call(*verb, PYTHONWARNINGS="error")
        assert outcome.code == 0, outcome
        assert "arning" not in outcome.err
