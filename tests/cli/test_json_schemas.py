"""The output of `--json` matches the schemas in docs/schemas."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, Folder, retrained_small
from jsonschema import Draft202012Validator
from PIL import Image
from typer.main import get_command

from mnist_hpo.cli.main import app
from mnist_hpo.cli.schemas.commands import OUTPUTS
from mnist_hpo.data.prepared import PreparedDataset

SCHEMAS = ROOT / "docs" / "schemas"


def problems(document: Any, verb: str) -> list[str]:
    """Return where and how a document violates the schema of a verb's output."""
    schema = json.loads((SCHEMAS / f"{verb.replace(' ', '-')}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    errors = Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]


@pytest.fixture(scope="module")
def retrained(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return retrained_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def printed(finished: Folder, retrained: Folder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The real output of every verb that prints JSON."""
    compared = retrained.call(
        "compare", "--runs", "small:0", "small:1", f"small:{finished.status()['best']['number']}", "--json"
    )
    best = finished.status()["best"]["number"]
    model = next((finished.path / "mlruns" / "checkpoints").rglob(f"best-{best:05d}"))
    blank = tmp_path_factory.mktemp("blank") / "blank.png"
    Image.new("L", (40, 40), 255).save(blank)
    return {
        "bundle verify": finished.call("bundle", "verify", str(model), "--json").out,
        "predict": finished.call("predict", str(blank), "--model", str(model), "--json").out,
        "best": finished.call("best", "small", "--json").out,
        "compare": compared.out,
        "data": finished.call("data", "--json").out,
        "ensemble": retrained.call("ensemble", "small", "--top", "2", "--json").out,
        "retrain": (retrained.path / "champion.json").read_text(),
        "run": (finished.path / "run.json").read_text(),
        "status": finished.call("status", "small", "--json").out,
        "trials": finished.call("trials", "small", "--json").out,
    }


@pytest.mark.parametrize("verb", sorted(verb for verb in OUTPUTS if not verb.startswith(("bench", "export", "paper"))))
def test_real_output_matches_its_schema(printed: dict[str, str], verb: str) -> None:
    document = json.loads(printed[verb], parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert problems(document, verb) == []


def test_a_schema_rejects_missing_and_extra_fields_and_wrong_types(printed: dict[str, str]) -> None:
    document = json.loads(printed["trials"])
    for change, expected in (
        ({"number": "0"}, "$[0].number: '0' is not of type 'integer'"),
        ({"state": "lost"}, "$[0].state: 'lost' is not one of ['complete', 'pruned', 'failed', 'running', 'paused']"),
        ({"surplus": 1}, "$[0]: Additional properties are not allowed ('surplus' was unexpected)"),
        ({"valid_loss": {"1": None}}, "$[0].valid_loss['1']: None is not of type 'number'"),
    ):
        assert problems([document[0] | change], "trials") == [expected]
    del document[0]["reason"]
    assert problems(document, "trials") == ["$[0]: 'reason' is a required property"]


def test_every_verb_that_prints_json_has_a_schema() -> None:
    verbs = dict(get_command(app).commands)  # type: ignore[attr-defined]
    for group in ("bench", "bundle"):
        verbs |= {f"{group} {name}": verb for name, verb in verbs.pop(group).commands.items()}
    with_json = {name for name, verb in verbs.items() if any("--json" in option.opts for option in verb.params)}
    assert with_json == set(OUTPUTS)


def test_the_schema_files_match_the_code() -> None:
    path = ROOT / "scripts" / "write_schemas.py"
    spec = importlib.util.spec_from_file_location("write_schemas", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    in_folder = {path.name: path.read_text() for path in Path(SCHEMAS).iterdir()}
    assert in_folder == module.files(), "run scripts/write_schemas.py"
