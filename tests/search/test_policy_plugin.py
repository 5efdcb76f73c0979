"""A policy is one new file; here in a third-party package, installed in a folder outside this repository."""

import os
from pathlib import Path

import pytest
from command import Folder, assert_refused, make_folder

POLICY = '''\
"""Starts all trials, in turn over a list of widths, and trains on only the best after the first epoch."""

from mnist_hpo.search.options import integer_options
from mnist_hpo.search.policy import Finished, Resume, Start, Wait


class BestOfAll:
    extends_in_place = False
    decision_epochs = (1,)

    def __init__(self, study):
        self.width = integer_options(study.policy.options, width=8)["width"]
        self.n_trials, self.n_started = study.budget.n_trials, 0
        self.paused, self.failed, self.resumed = {}, set(), False

    def next(self):
        if self.n_started < self.n_trials:
            self.n_started += 1
            return Start({"width": self.width * self.n_started})
        if len(self.paused) + len(self.failed) < self.n_trials:
            return Wait()
        if self.resumed or not self.paused:
            return Finished()
        self.resumed = True
        return Resume(min(self.paused, key=self.paused.get))

    def on_epoch(self, trial, epoch, measures):
        if epoch > 1:
            return "continue"
        self.paused[trial] = measures["valid_loss"]
        return "pause"

    def on_complete(self, trial, values):
        pass

    def on_stop(self, trial):
        pass

    def on_failure(self, trial, epoch):
        self.failed.add(trial)


POLICY = BestOfAll
'''

STUDY = """\
name: small
budget: {n_trials: 3, max_epochs: 3}
slots: 2
policy: {name: best_of_all, width: 4}
space:
  width: {type: int, low: 1, high: 64}
fixed: {n_train: 1000, batch_size: 20, depth: 1, learning_rate: 0.005}
"""


def install(folder: Path, entry: str, text: str) -> dict[str, str]:
    """Install a package as pip does; return the environment variables with which Python finds it."""
    metadata = folder / "someones_policy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-policy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mnist_hpo.policies]\n{entry}\n")
    (folder / "someones_policy.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def folder_with(tmp_path: Path, study: str = STUDY) -> Folder:
    folder = make_folder(tmp_path, "policy")
    (folder.path / "small.yaml").write_text(study)
    return folder


@pytest.mark.slow
def test_a_study_can_use_a_policy_of_another_package(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "best_of_all = someones_policy:POLICY", POLICY)
    folder = folder_with(tmp_path)
    folder.run(**environment)
    trials = folder.call("trials", "small", "--json", **environment).json()
    assert [trial["params"]["width"] for trial in trials] == [4, 8, 12]
    best = min(range(3), key=lambda number: trials[number]["valid_loss"]["1"])
    assert [trial["state"] for trial in trials] == ["complete" if n == best else "paused" for n in range(3)]
    assert [len(trial["valid_loss"]) for trial in trials] == [3 if n == best else 1 for n in range(3)]
    history = folder.call("status", "small", "--json", **environment).json()["history_sha256"]

    # Another number of workers and an extension give the same history.
    again = folder_with(tmp_path, STUDY.replace("n_trials: 3", "n_trials: 2"))
    again.run("--workers", "1", **environment)
    (again.path / "small.yaml").write_text(STUDY)
    again.run(**environment)
    assert again.call("status", "small", "--json", **environment).json()["history_sha256"] == history


def test_an_option_that_the_policy_refuses_is_named(tmp_path: Path) -> None:
    environment = install(tmp_path / "site", "best_of_all = someones_policy:POLICY", POLICY)
    folder = folder_with(tmp_path, STUDY.replace("width: 4", "height: 4"))
    refused = folder.call("run", "small.yaml", **environment)
    assert_refused(refused, "line 4: policy.height: unknown option", "known are width")


def test_a_policy_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    refused = folder_with(tmp_path).call("run", "small.yaml")
    assert_refused(refused, "policy.name: unknown policy 'best_of_all'", "known are asha")


@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        (
            "best_of_all = someones_policy:POLICY",
            "import nobody_has_this",
            "the policy best_of_all (someones_policy:POLICY) cannot be loaded: No module named",
        ),
        (
            "asha = someones_policy:POLICY",
            POLICY,
            "the entry point asha = someones_policy:POLICY of mnist_hpo.policies: another policy has this name",
        ),
        (
            "best_of_all = someones_policy:POLICY",
            POLICY.replace("return Start(", "raise ZeroDivisionError('no width')\n            return Start("),
            "no width",
        ),
    ],
)
def test_a_broken_package_is_named_in_the_message(tmp_path: Path, entry: str, text: str, message: str) -> None:
    environment = install(tmp_path / "site", entry, text)
    assert_refused(folder_with(tmp_path).call("run", "small.yaml", **environment), message)
