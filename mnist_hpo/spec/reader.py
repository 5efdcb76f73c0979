"""From a study file's text to a `Study`; every mistake is told with its file, line, value and way out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Budget, CategoricalSpace, FloatSpace, IntSpace, Study

Location = tuple[str | int, ...]
"""Where in a study file: ("space", "learning_rate", "low")."""


@dataclass(frozen=True)
class StudyFile:
    """A study and the text that it was read from, so that later checks can still name the line."""

    path: Path
    text: str
    study: Study
    _document: CommentedMap

    def fail(self, location: Location, message: str) -> NoReturn:
        """Raise the `UserError` that says what is wrong at this place of the file."""
        raise UserError(_describe(self.path, self._document, location, message))


def read_study(path: Path) -> StudyFile:
    """Read and validate a study file.

    Raises:
        UserError: the file is missing, is not YAML, repeats or misspells a key, or holds a value that cannot be.

    """
    return parse_study(_read_text(path), path)


def parse_study(text: str, path: Path) -> StudyFile:
    """Validate a study file's text; `path` is what messages call it.

    Raises:
        UserError: see `read_study`.

    """
    document = _parse(path, text)
    try:
        study = Study.model_validate(_plain(document))
    except ValidationError as error:
        details = _without_misspelt_as_missing(error.errors())
        problems = [_describe(path, document, *_explain(detail)) for detail in details]
        raise UserError("\n".join(dict.fromkeys(problems))) from None
    return StudyFile(path, text, study, document)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        nearby = sorted(Path("studies").glob("*.yaml"))
        known = f"; there {'is' if len(nearby) == 1 else 'are'} {', '.join(map(str, nearby))}" if nearby else ""
        meant = nearest(path.stem, [file.stem for file in nearby])
        raise UserError(f"{path}: no such study file{meant}{known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a study file: {error}") from None


def _parse(path: Path, text: str) -> CommentedMap:
    try:
        document = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem or "").split('"')[1]
        raise UserError(f"{path}{_mark(error)}: the key {key!r} stands here a second time; keep one") from None
    except MarkedYAMLError as error:
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}{_mark(error)}: not valid YAML: {problem}") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(document, CommentedMap):
        raise UserError(f"{path}: a study file is a mapping that starts with 'name: …', not {type(document).__name__}")
    return document


def _mark(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _plain(node: Any) -> Any:
    """The document without ruamel's own types, which remember how a number was written."""
    if isinstance(node, CommentedMap):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _describe(path: Path, document: CommentedMap, location: Location, message: str) -> str:
    where = ".".join(map(str, location))
    return f"{path}, line {_line_of(document, location)}: {where}{': ' if where else ''}{message}"


def _line_of(document: CommentedMap, location: Location) -> int:
    """The line of the deepest part of the location that the document has, counted from 1."""
    node: Any = document
    line = 0
    for key in location:
        if isinstance(node, CommentedMap) and key in node:
            line = node.lc.key(key)[0]
        elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
            line = node.lc.item(key)[0]
        else:
            break
        node = node[key]
    return line + 1


_SECTIONS: dict[str, type[BaseModel]] = {"float": FloatSpace, "int": IntSpace, "categorical": CategoricalSpace}


def _without_misspelt_as_missing(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without the keys that are missing only because they are misspelt, which is told of the misspelling."""
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    meant = {(*loc[:-1], _nearest_word(str(loc[-1]), _keys_beside(loc))) for loc in unknown}
    return [detail for detail in details if detail["type"] != "missing" or detail["loc"] not in meant]


def _explain(detail: ErrorDetails) -> tuple[Location, str]:
    """Pydantic's finding in the words of a study file."""
    location = _in_the_file(detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if location[:1] in (("fixed",), ("enqueue",)) and detail["type"].endswith(("_type", "_parsing")):
        # Pydantic tells once for each kind of value that it could have been.
        return location, f"must be a number, a text, true or false, not {detail['input']!r}"
    match detail["type"]:
        case "extra_forbidden":
            known = _keys_beside(detail["loc"])
            return location, f"unknown key{nearest(str(location[-1]), known)}; known are {', '.join(known)}"
        case "missing":
            return location, "is missing"
        case "union_tag_not_found" | "union_tag_invalid":
            given = detail["input"]
            kind = given.get("type") if isinstance(given, dict) else given
            return location, f"type must be one of float, int, categorical, not {kind!r}"
        case "value_error":
            return location, message
        case _:
            return location, f"{message}, not {detail['input']!r}"


def _in_the_file(loc: Location) -> Location:
    """Pydantic's location without the union branches that it puts between the file's own keys."""
    if loc[:1] == ("space",):
        return loc[:2] + tuple(part for part in loc[2:] if part not in _SECTIONS)
    if loc[:1] in (("fixed",), ("enqueue",)):
        return tuple(part for part in loc if part not in ("bool", "int", "float", "str"))
    return loc


def _keys_beside(loc: Location) -> list[str]:
    if loc[:1] == ("budget",):
        section: type[BaseModel] = Budget
    elif loc[:1] == ("space",):
        section = _SECTIONS[str(loc[2])]
    else:
        section = Study
    return list(section.model_fields)


def nearest(word: str, known: Sequence[str]) -> str:
    """The words "; did you mean …?" with the known name nearest to a misspelled one, or nothing."""
    match = _nearest_word(word, known)
    return "" if match is None else f"; did you mean {match!r}?"


def _nearest_word(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.5)), None)
