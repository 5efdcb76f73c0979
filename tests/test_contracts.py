"""The project's static checks pass, and its import contracts reject forbidden imports."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    tool, *arguments = command
    return subprocess.run([TOOLS / tool, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "command",
    [
        ("lint-imports", "--no-cache"),
        ("ruff", "check", "mnist_hpo", "tests", "scripts"),
        ("ruff", "format", "--check", "mnist_hpo", "tests", "scripts"),
        ("basedpyright",),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_static_checks_pass(command: tuple[str, ...]) -> None:
    ended = run(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that tests may change."""
    shutil.copytree(ROOT / "mnist_hpo", tmp_path / "mnist_hpo", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("learners/flax/core.py", "import sklearn.svm", "A Flax training loads no scikit-learn"),
        ("scheduler.py", "from mnist_hpo.data.held_out import load_test", "Only the champion sees the test rows"),
        ("executors/worker.py", "import mnist_hpo.data.held_out", "Only the champion sees the test rows"),
        ("data/arrays.py", "from mnist_hpo.data import held_out", "Only the champion sees the test rows"),
        ("runner.py", "def f():\n    from mnist_hpo.data.held_out import load_test", "Only the champion sees"),
        ("learners/config.py", "def f():\n    import optuna.trial", "A worker loads nothing of search"),
        ("executors/checkpoint.py", "from mlflow.entities import Run", "A worker loads nothing of search"),
        ("learners/config.py", "import jax", "The coordinator loads no JAX"),
        ("tracking/tracker.py", "def f():\n    import mnist_hpo.tracking.client", "A search loads no MLflow"),
        ("spec/study.py", "from mnist_hpo.learners import cost", "Imports run downward only"),
        ("search/space.py", "import mnist_hpo.storage.records", "Imports run downward only"),
        ("analysis/anytime.py", "import mnist_hpo.report.page", "Imports run downward only"),
        ("analysis/timeline.py", "import mnist_hpo.scheduler", "Imports run downward only"),
        ("trial_plan.py", "import mnist_hpo.scheduler", "Imports run downward only"),
        ("report/page.py", "import mnist_hpo.cli.schemas.study", "Imports run downward only"),
        ("tracking/tracker.py", "import mnist_hpo.scheduler", "Imports run downward only"),
        ("runner.py", "import mnist_hpo.api.run", "Imports run downward only"),
        ("api/run.py", "import mnist_hpo.champion.register", "A search loads no MLflow"),
        ("analysis/comparison.py", "import mnist_hpo.storage.study_storage", "Of the analysis, `reading` alone"),
        ("a_new_module.py", "", "Imports run downward only"),
    ],
)
def test_a_forbidden_import_is_reported(copy: Path, file: str, line: str, contract: str) -> None:
    with (copy / "mnist_hpo" / file).open("a") as source:
        source.write(f"\n{line}\n")
    ended = run("lint-imports", "--no-cache", cwd=copy)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert any(contract in text and "BROKEN" in text for text in ended.stdout.splitlines())


def test_only_the_data_package_names_the_files_of_the_test_split() -> None:
    """No other package can read them except through `held_out`."""
    names = ("test_images", "test_labels", "TEST_IMAGES", "TEST_LABELS", "t10k")
    package = ROOT / "mnist_hpo"
    naming = [file.relative_to(package) for file in package.rglob("*.py") if any(n in file.read_text() for n in names)]
    assert {file.parts[0] for file in naming} == {"data"}, naming
