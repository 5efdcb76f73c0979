"""The model of what each command prints."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from mnist_hpo.cli.schemas.bench import BenchOverheadOutput, BenchPeersOutput, BenchReplayOutput, BenchRooflineOutput
from mnist_hpo.cli.schemas.bundle import BundleOutput
from mnist_hpo.cli.schemas.compare import CompareOutput
from mnist_hpo.cli.schemas.data import DataOutput
from mnist_hpo.cli.schemas.ensemble import EnsembleOutput
from mnist_hpo.cli.schemas.paper import PaperOutput
from mnist_hpo.cli.schemas.predict import PredictOutput
from mnist_hpo.cli.schemas.retrain import RetrainOutput
from mnist_hpo.cli.schemas.study import RunOutput, StatusOutput
from mnist_hpo.cli.schemas.trial import BestOutput, TrialsOutput

OUTPUTS: Mapping[str, type[BaseModel]] = {
    "bench overhead": BenchOverheadOutput,
    "bench peers": BenchPeersOutput,
    "bench replay": BenchReplayOutput,
    "bench roofline": BenchRooflineOutput,
    "best": BestOutput,
    "bundle verify": BundleOutput,
    "compare": CompareOutput,
    "data": DataOutput,
    "ensemble": EnsembleOutput,
    "export": BundleOutput,
    "paper": PaperOutput,
    "predict": PredictOutput,
    "retrain": RetrainOutput,
    "run": RunOutput,
    "status": StatusOutput,
    "trials": TrialsOutput,
}
"""By command."""
