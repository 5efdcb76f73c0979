"""Parse the text of a study file into a `Study`. Every error message names the file, the line, the value and a fix."""

from __future__ import annotations

import difflib
import io
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from mnist_hpo.spec.document import Document, DocumentError, Location, load_document
from mnist_hpo.spec.errors import UserError, printable, shown
from mnist_hpo.spec.init_from import InitFrom
from mnist_hpo.spec.study import (
    Budget,
    CategoricalSpace,
    DatasetFolder,
    FloatSpace,
    IntSpace,
    Objective,
    Study,
)

_MAX_BYTES = 128 * 1024
"""Limit for a study file; the files in this repository have about 2,000 bytes."""
_MAX_PROBLEMS = 20
"""Limit for the problems listed in one message."""


@dataclass(frozen=True)
class StudyFile:
    """A study and the text that it was read from, so that later checks can name the line."""

    path: Path
    text: str
    study: Study
    _document: Document

    def fail(self, location: Location, message: str) -> NoReturn:
        """Raise a `UserError` about this location of the file."""
        raise UserError(_describe(self.path, self._document, location, message))

    def with_dataset(self, folder: DatasetFolder) -> StudyFile:
        """Return a copy whose study has this folder, with its content, as the dataset."""
        return replace(self, study=self.study.model_copy(update={"dataset": folder}))

    def with_init_from(self, init_from: InitFrom) -> StudyFile:
        """Return a copy whose study has this `init_from`, with its weights identified."""
        return replace(self, study=self.study.model_copy(update={"init_from": init_from}))


def read_study(path: Path) -> StudyFile:
    """Read and validate a study file.

    Raises:
        UserError: the file is missing, is not YAML, repeats or misspells a key, or has an invalid value.

    """
    return parse_study(_read_text(path), path)


def parse_study(text: str, path: Path) -> StudyFile:
    """Validate the text of a study file; messages refer to it as `path`.

    Raises:
        UserError: see `read_study`.

    """
    document = _parse(path, text)
    try:
        study = Study.model_validate(document.value)
    except ValidationError as error:
        raise UserError("\n".join(_problems(path, document, error))) from None
    return StudyFile(path, text, study, document)


def to_study_file(study: Study) -> StudyFile:
    """Convert a study to YAML that reads back as an equal study; fields at their defaults are left out.

    Raises:
        UserError: the study contains something that a study file cannot, such as control characters.

    """
    yaml = YAML()
    text = io.StringIO()
    yaml.dump(study.model_dump(mode="json", exclude_defaults=True), text)
    return parse_study(text.getvalue(), Path(f"Study {study.name}"))


def _read_text(path: Path) -> str:
    try:
        data = _read_bytes(path)
    except FileNotFoundError:
        nearby = sorted(Path("studies").glob("*.yaml"))
        known = f"; there {'is' if len(nearby) == 1 else 'are'} {', '.join(map(str, nearby))}" if nearby else ""
        meant = nearest(path.stem, [file.stem for file in nearby])
        raise UserError(f"{path}: no such study file{meant}{known}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a study file: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise UserError(f"{path}: cannot be read as a study file: it has more than {_MAX_BYTES:,} bytes")
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: cannot be read as a study file: line {line} is not UTF-8 text; save the file as UTF-8"
        ) from None


def _read_bytes(path: Path) -> bytes:
    """Read at most one byte over the limit, and only from a regular file: a pipe or a device may never end."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise OSError("it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError("it is a pipe or a device; save the study in a file")
    with path.open("rb") as file:
        return file.read(_MAX_BYTES + 1)


def _parse(path: Path, text: str) -> Document:
    try:
        document = load_document(text)
    except DocumentError as error:
        raise UserError(f"{path}{error.place}: {printable(str(error))}") from None
    if not isinstance(document.value, dict):
        found = "an empty file" if document.value is None else shown(document.value)
        raise UserError(f"{path}: a study file is a mapping that starts with 'name: …', not {found}")
    return document


def _problems(path: Path, document: Document, error: ValidationError) -> list[str]:
    """Return one line for each problem, up to a limit."""
    details = error.errors(include_url=False)
    # Pydantic reports several errors for one value that could be of several types.
    considered = _drop_missing_if_misspelled(details[: 5 * _MAX_PROBLEMS])
    problems = list(dict.fromkeys(_describe(path, document, *_location_and_message(detail)) for detail in considered))
    if len(problems) > _MAX_PROBLEMS or len(details) > 5 * _MAX_PROBLEMS:
        return [*problems[:_MAX_PROBLEMS], f"{path}: and more; fix these first"]
    return problems


def _describe(path: Path, document: Document, location: Location, message: str) -> str:
    where = ".".join(map(str, location))
    return f"{path}, line {document.line_of(location)}: {printable(where)}{': ' if where else ''}{printable(message)}"


_SECTIONS: dict[str, type[BaseModel]] = {"float": FloatSpace, "int": IntSpace, "categorical": CategoricalSpace}


def _drop_missing_if_misspelled(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out errors about missing keys that are only misspelt; the misspelling has an error of its own."""
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    meant = {(*loc[:-1], _nearest_word(str(loc[-1]), _known_keys(loc))) for loc in unknown}
    return [detail for detail in details if detail["type"] != "missing" or detail["loc"] not in meant]


def _location_and_message(detail: ErrorDetails) -> tuple[Location, str]:
    """Return the location and the message for one of Pydantic's errors, in the terms of a study file."""
    loc, context = detail["loc"], detail.get("ctx", {})
    location = _file_location(loc)
    if _is_parameter_value(loc):
        # Pydantic reports one error for each possible type of the value.
        return location, f"must be a number, text, true or false, not {shown(detail['input'])}"
    match detail["type"]:
        case "extra_forbidden":
            known = _known_keys(loc)
            return location, f"unknown key{nearest(str(loc[-1]), known)}; known are {', '.join(known)}"
        case "missing":
            return location, "is missing"
        case "union_tag_not_found" | "union_tag_invalid":
            given = detail["input"]
            kind = given.get("type") if isinstance(given, dict) else given
            return location, f"type must be one of float, int, categorical, not {shown(kind)}"
        case "string_type" if loc == ("dataset", "name"):
            return location, f"must be a dataset's name or {{path: DIR}}, not {shown(detail['input'])}"
        case "value_error":
            return location, detail["msg"].removeprefix("Value error, ")
        case "too_short":
            return location, "must not be empty"
        case "too_long":
            return location, f"must have at most {context['max_length']:,} entries"
        case kind:
            rule = _RULES[kind].format(**context) if kind in _RULES else detail["msg"]
            return location, f"{rule}, not {shown(detail['input'])}"


_RULES = {
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "float_type": "must be a number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:,}",
    "int_type": "must be a whole number",
    "less_than": "must be below {lt:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
    "model_attributes_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_too_long": "must have at most {max_length:,} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "tuple_type": "must be a list",
}
"""Messages for Pydantic's error types, in the terms of a study file."""


def _file_location(loc: Location) -> Location:
    """Return Pydantic's location without the type that it appends to `space.NAME`, `dataset` and a value."""
    if _is_parameter_value(loc):
        loc = loc[:-1]
    if loc[:1] == ("dataset",):
        return loc[:1] + loc[2:]
    return loc[:2] + loc[3:] if loc[:1] == ("space",) else loc


def _is_parameter_value(loc: Location) -> bool:
    """Return whether this is the location of a `ParameterValue`. These are fixed.NAME.TYPE, enqueue.0.NAME.TYPE,
    space.NAME.TYPE.choices.0.TYPE and space.NAME.TYPE.when.NAME.0.TYPE."""
    return (loc[:1], len(loc)) in ((("fixed",), 3), (("enqueue",), 4), (("space",), 6), (("space",), 7))


def _known_keys(loc: Location) -> list[str]:
    if loc[:1] == ("budget",):
        section: type[BaseModel] = Budget
    elif loc[:1] == ("objectives",):
        section = Objective
    elif loc[:1] == ("dataset",):
        section = DatasetFolder
    elif loc[:1] == ("init_from",):
        section = InitFrom
    elif loc[:1] == ("space",):
        section = _SECTIONS[str(loc[2])]
    else:
        section = Study
    return list(section.model_fields)


def nearest(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to a misspelled one, or an empty string."""
    match = _nearest_word(word, known)
    return "" if match is None else f"; did you mean {match!r}?"


def _nearest_word(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.5)), None)
