"""`scripts/setup`, mostly on a checkout that is already set up."""

import shutil
import subprocess
from pathlib import Path

import pytest
from command import ROOT


@pytest.fixture
def path_without_python(tmp_path: Path) -> Path:
    """A folder for PATH without Python, so even a broken script cannot install anything."""
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
    """Assumes that the script ran before; if this fails after a change of the requirements, run the script again."""
    if not (ROOT / ".venv" / "stamp").exists():
        pytest.skip("scripts/setup did not create the environment of these tests")
    done = setup(path_without_python, *options)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == 0


def test_without_python_it_says_what_it_needs(path_without_python: Path) -> None:
    """Runs in a copy of the script and the files that it reads, as in a new clone."""
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


@pytest.mark.parametrize("environment", [".venv", "of-another-project"])
def test_in_an_activated_environment_the_system_python_is_used(path_without_python: Path, environment: str) -> None:
    """The environment's own Python comes first on PATH and has no pip."""
    own, outside = path_without_python / environment / "bin", path_without_python / "outside"
    for folder, exit_code in ((own, 1), (outside, 0)):
        folder.mkdir(parents=True)
        (folder / "python3").write_text(f"#!{shutil.which('bash')}\nexit {exit_code}\n")
        (folder / "python3").chmod(0o755)
    script = (ROOT / "scripts" / "setup").read_text()
    finder = script[script.index("find_python()") : script.index("# Identifies the requirements")]
    done = subprocess.run(
        ["bash", "-c", f"{finder}\nfind_python"],
        cwd=path_without_python,
        env={"PATH": f"{own}:{path_without_python}:{outside}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(outside / "python3")


def test_without_apt_get_installing_a_browser_is_refused(path_without_python: Path) -> None:
    done = setup(path_without_python, "--browser")
    assert done.returncode == 2
    assert "without apt-get" in done.stderr
    assert "browser tests are skipped" in done.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs scripts/setup --browser")
def test_an_installed_browser_is_not_installed_again(path_without_python: Path) -> None:
    if not (ROOT / ".venv" / "stamp").exists():
        pytest.skip("scripts/setup did not create the environment of these tests")
    (path_without_python / "chromium").symlink_to(shutil.which("chromium") or "")
    done = setup(path_without_python, "--browser")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_option_is_refused_with_the_known_ones(path_without_python: Path) -> None:
    done = setup(path_without_python, "--prod")
    assert done.returncode == 2
    assert "scripts/setup --dev" in done.stdout + done.stderr
