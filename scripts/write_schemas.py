"""Write docs/schemas/: a JSON Schema for each verb's --json, from the models in mnist_hpo/cli/schemas/.

Run:  .venv/bin/python scripts/write_schemas.py    (tests/cli/test_json_schemas.py says when it is due)
"""

import json
from pathlib import Path

from mnist_hpo.cli.schemas.verbs import OUTPUTS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"

_INDEX = """\
# What `--json` prints

Every verb that takes `--json` prints one JSON document to standard output, and nothing else goes there. These files say
what is in it, as [JSON Schema](https://json-schema.org) 2020-12. They are written by `scripts/write_schemas.py` from
`mnist_hpo/cli/schemas/`, whose models the verbs print; a test compares the two, and another validates real output.

| verb | schema | what it is |
|---|---|---|
{rows}

They belong to the version that they came with; the changelog says when a field changes its meaning or goes.
Numbers are finite. Epochs are counted from 1, trials from 0.
"""


def files() -> dict[str, str]:
    """The text of every file in the folder, by name."""
    texts: dict[str, str] = {}
    rows: list[str] = []
    for verb, model in sorted(OUTPUTS.items()):
        name = f"{verb.replace(' ', '-')}.schema.json"
        schema = model.model_json_schema(mode="serialization")
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "title": f"mnist-hpo {verb} --json",
        }
        texts[name] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        rows.append(f"| `{verb}` | [{name}]({name}) | {(model.__doc__ or '').splitlines()[0]} |")
    return {**texts, "README.md": _INDEX.format(rows="\n".join(rows))}


def main() -> None:
    """Write what has changed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
    print(f"{len(files())} files in {FOLDER}")


if __name__ == "__main__":
    main()
