"""A coordinator process that tests kill: coordinate.py URL FOLDER STUDY_JSON. It prints a line per recorded change."""

import sys
from pathlib import Path

from simulated_executor import SimulatedExecutor, run_and_give_up

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.lock import study_lock
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage


class Printer:
    def trial_changed(self, trial: TrialRecord) -> None:
        print(trial.number, trial.state, len(trial.epochs), flush=True)


def main(url: str, folder: str, study_json: str) -> None:
    study = Study.model_validate_json(study_json)
    with study_lock(url, study.name):
        storage = StudyStorage.create(url, study, study_file="", context={})
        run_and_give_up(study, storage, SimulatedExecutor(), checkpoints=Path(folder), observers=[Printer()])
        storage.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
