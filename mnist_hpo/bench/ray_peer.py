"""Run the same PyTorch trainings as trials of Ray Tune, one core each: a peer in `mnist-hpo bench peers`.

python -m mnist_hpo.bench.ray_peer LIST.json --seed 0
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mnist_hpo.bench.pytorch_peer import train
from mnist_hpo.bench.trainings import read_trainings


def main() -> None:
    """Run the list as trials."""
    parser = argparse.ArgumentParser()
    parser.add_argument("list", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    trainings = read_trainings(options.list)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Ray comes with the extra `bench`, so the type checker does not find it.
    ray: Any = importlib.import_module("ray")
    tune: Any = importlib.import_module("ray.tune")

    def trial(config: dict[str, Any]) -> None:
        index = config["index"]
        accuracy = train(trainings[index], seed=1000 * options.seed + index, bf16=False)
        tune.report({"valid_accuracy": accuracy})

    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    longest_first = sorted(range(len(trainings)), key=lambda index: -trainings[index].flops())
    with tempfile.TemporaryDirectory(prefix="mnist-hpo-ray-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, {"cpu": 1}),
            param_space={"index": tune.grid_search(longest_first)},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    accuracies = {result.config["index"]: result.metrics["valid_accuracy"] for result in results}
    print(json.dumps({"valid_accuracy": [accuracies[index] for index in range(len(trainings))]}))


if __name__ == "__main__":
    main()
