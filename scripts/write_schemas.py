"""Write docs/schemas/: a JSON Schema of what each command prints with --json, from mnist_hpo/cli/schemas/.

Run:  .venv/bin/python scripts/write_schemas.py    (tests/cli/test_json_schemas.py fails when the files are out of date)
"""

import json
from pathlib import Path

from mnist_hpo.cli.schemas.commands import OUTPUTS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"

_INDEX = """\
# What `--json` prints

Every command that takes `--json` prints one JSON document to standard output, and nothing else. These files describe
the documents, as [JSON Schema](https://json-schema.org) 2020-12. `scripts/write_schemas.py` generates them from the
models in `mnist_hpo/cli/schemas/`, which the commands print; one test checks that the files are up to date, another
validates real output.

| command | schema | description |
|---|---|---|
{rows}

Each version has its own schemas; the changelog says when a field changes its meaning or is removed.
Numbers are finite. Epochs are counted from 1, trials from 0.
"""


def files() -> dict[str, str]:
    """Return the text of every file in the folder, by name."""
    texts: dict[str, str] = {}
    rows: list[str] = []
    for command, model in sorted(OUTPUTS.items()):
        name = f"{command.replace(' ', '-')}.schema.json"
        schema = model.model_json_schema(mode="serialization")
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "title": f"mnist-hpo {command} --json",
        }
        texts[name] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        rows.append(f"| `{command}` | [{name}]({name}) | {(model.__doc__ or '').splitlines()[0]} |")
    return {**texts, "README.md": _INDEX.format(rows="\n".join(rows))}


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
    print(f"{len(files())} files in {FOLDER}")


if __name__ == "__main__":
    main()
