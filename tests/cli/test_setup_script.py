"""`scripts/setup` on a checkout that is set up already."""

import shutil
import subprocess
from pathlib import Path

import pytest
from command import ROOT


@pytest.fixture
def path_without_python(tmp_path: Path) -> Path:
    """Where there is no Python on PATH nothing can be installed, so that even a broken setup does no harm here."""
    for tool in ("bash", "cat", "cksum", "dirname", "grep", "rm", "sed"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def setup(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [ROOT / "scripts" / "setup", *options]
    return subprocess.run(command, cwd=path, env={"PATH": str(path)}, capture_output=True, text=True)


@pytest.mark.parametrize("options", [[], ["--dev"]], ids=["for a user", "for a developer"])
def test_a_second_call_installs_nothing(path_without_python: Path, options: list[str]) -> None:
    """Whoever runs the tests has called it a first time: if this fails with other requirements, call it again."""
    if not (ROOT / ".venv" / "stamp").exists():
        pytest.skip("these tests run from an environment that scripts/setup did not make")
    done = setup(path_without_python, *options)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == 0


def test_without_python_it_says_what_it_needs(path_without_python: Path) -> None:
    """On a bare clone: a copy of the scripts and nothing else."""
    for file in ("scripts/setup", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (path_without_python / "clone" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, path_without_python / "clone" / file)
    done = subprocess.run(
        [path_without_python / "clone" / "scripts" / "setup"],
        env={"PATH": str(path_without_python)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "needs Python 3.11, 3.12 or 3.13 with pip" in done.stderr
    assert not (path_without_python / "clone" / ".venv").exists()


def test_where_the_environment_is_activated_the_python_that_made_it_installs(path_without_python: Path) -> None:
    """The environment's own comes first on PATH then, and has no pip."""
    own, outside = path_without_python / ".venv" / "bin", path_without_python / "outside"
    for folder, exit_code in ((own, 1), (outside, 0)):
        folder.mkdir(parents=True)
        (folder / "python3").write_text(f"#!{shutil.which('bash')}\nexit {exit_code}\n")
        (folder / "python3").chmod(0o755)
    script = (ROOT / "scripts" / "setup").read_text()
    finder = script[script.index("find_python()") : script.index("# What .venv was made from")]
    done = subprocess.run(
        ["bash", "-c", f"{finder}\nfind_python"],
        cwd=path_without_python,
        env={"PATH": f"{own}:{path_without_python}:{outside}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(outside / "python3")


def test_a_browser_where_apt_is_not(path_without_python: Path) -> None:
    done = setup(path_without_python, "--browser")
    assert done.returncode == 2
    assert "no apt-get" in done.stderr
    assert "browser tests are skipped" in done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="scripts/setup --browser has not been called")
def test_a_browser_that_is_there_is_not_installed_again(path_without_python: Path) -> None:
    if not (ROOT / ".venv" / "stamp").exists():
        pytest.skip("these tests run from an environment that scripts/setup did not make")
    (path_without_python / "chromium").symlink_to(shutil.which("chromium") or "")
    done = setup(path_without_python, "--browser")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_word_that_it_does_not_know(path_without_python: Path) -> None:
    done = setup(path_without_python, "--prod")
    assert done.returncode == 2
    assert "scripts/setup --dev" in done.stdout + done.stderr
