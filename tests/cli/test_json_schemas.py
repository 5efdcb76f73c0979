"""What `--json` prints, against the schemas in docs/schemas."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, Folder, retrained_small
from jsonschemas import problems
from typer.main import get_command

from mnist_hpo.cli.main import app
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.outputs import OUTPUTS

SCHEMAS = ROOT / "docs" / "schemas"


def schema_of(verb: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{verb.replace(' ', '-')}.schema.json").read_text())


@pytest.fixture(scope="module")
def retrained(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return retrained_small(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def printed(finished: Folder, retrained: Folder) -> dict[str, str]:
    """Real output of every verb that prints JSON."""
    compared = retrained.call(
        "compare", "--runs", "small:0", "small:1", f"small:{finished.status()['best']['number']}", "--json"
    )
    return {
        "best": finished.call("best", "small", "--json").out,
        "compare": compared.out,
        "data": finished.call("data", "--json").out,
        "retrain": (retrained.path / "champion.json").read_text(),
        "run": (finished.path / "run.json").read_text(),
        "status": finished.call("status", "small", "--json").out,
        "trials": finished.call("trials", "small", "--json").out,
    }


@pytest.mark.parametrize("verb", sorted(verb for verb in OUTPUTS if not verb.startswith("bench")))
def test_real_output_is_as_its_schema_says(printed: dict[str, str], verb: str) -> None:
    document = json.loads(printed[verb], parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    schema = schema_of(verb)
    assert list(problems(document, schema, schema)) == []


def test_a_schema_notices_what_is_missing_too_much_or_of_another_type(printed: dict[str, str]) -> None:
    schema, document = schema_of("trials"), json.loads(printed["trials"])
    for change, told in (
        ({"number": "0"}, ["$[0].number: '0' is no integer"]),
        ({"state": "lost"}, ["$[0].state: 'lost' is not one of ['complete', 'pruned', 'failed', 'running']"]),
        ({"surplus": 1}, ["$[0]: surplus is not in the schema"]),
        ({"valid_loss": {"1": None}}, ["$[0].valid_loss.1: None is no number"]),
    ):
        assert list(problems([document[0] | change], schema, schema)) == told
    del document[0]["reason"]
    assert list(problems(document, schema, schema)) == ["$[0]: reason is missing"]


def test_every_verb_that_prints_json_has_a_schema() -> None:
    verbs = dict(get_command(app).commands)  # type: ignore[attr-defined]
    verbs |= {f"bench {name}": verb for name, verb in verbs.pop("bench").commands.items()}
    with_json = {name for name, verb in verbs.items() if any("--json" in option.opts for option in verb.params)}
    assert with_json == set(OUTPUTS)


def test_the_schemas_are_those_of_the_code() -> None:
    path = ROOT / "scripts" / "write_schemas.py"
    spec = importlib.util.spec_from_file_location("write_schemas", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    in_folder = {path.name: path.read_text() for path in Path(SCHEMAS).iterdir()}
    assert in_folder == module.files(), "run scripts/write_schemas.py"
