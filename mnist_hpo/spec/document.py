"""Parse YAML text into plain values with line numbers, within limits far above the size of a real study file.

ruamel.yaml scans and composes the text. This module limits the size of the result and converts the nodes to dicts,
lists, numbers, strings, booleans and None. It reads YAML 1.2 without tags: a date is a string, `yes` is a string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import Event
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from mnist_hpo.spec.errors import first_line, shortened, shown

Location = tuple[str | int, ...]
"""A place in a document: ("space", "learning_rate", "low")."""

_MAX_DEPTH = 20
_MAX_NODES = 10_000
"""Counts the values that aliases and merge keys expand to as well."""
_MAX_TEXT_CHARS = 10_000
_MAX_KEY_CHARS = 100
_MAX_NUMBER_CHARS = 100
_MAX_PROBLEM_CHARS = 300
"""Limit for ruamel.yaml's error messages, which quote from the text."""
_INT_BOUND = 2**63
"""Integers must be smaller in magnitude: SQLite, NumPy and JSON readers accept no larger ones."""

_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Line feed and tab are allowed. Surrogates cannot be encoded as UTF-8."""

_CORE = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_CORE + name for name in ("str", "timestamp", "value", "merge"))


class DocumentError(Exception):
    """The text is not a valid document. Lines and columns count from 1."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        line_text = "" if line is None else f", line {line}"
        self.place = line_text if column is None else f"{line_text}, column {column}"


@dataclass(frozen=True)
class Document:
    """A YAML document with the line numbers of its parts."""

    value: object
    _lines: dict[Location, int]

    def line_of(self, location: Location) -> int:
        """Return the line of the deepest part of the location that the document has, counted from 1."""
        prefixes = (location[:length] for length in range(len(location), 0, -1))
        return next((self._lines[prefix] for prefix in prefixes if prefix in self._lines), 1)


def load_document(text: str) -> Document:
    """Parse YAML text.

    Raises:
        DocumentError: the text is not YAML, exceeds a limit, or contains something that study files do not support.

    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    root = _compose(yaml, text)
    builder = _Builder(yaml.constructor)
    return Document(None if root is None else builder.build(root, ()), builder.lines)


class _BoundedComposer(Composer):
    """ruamel's composer with limits on depth and size, since it recurses and its nodes take much memory."""

    def __init__(self, loader: YAML) -> None:
        super().__init__(loader=loader)
        self.warn_double_anchors = False
        self.line = 1
        """The line of the node composed last, counted from 1."""
        self._n_nodes = 0
        self._level = 0

    def compose_document(self) -> Node:
        event = self.parser.peek_event()
        if event.version not in (None, (1, 2)):
            version = ".".join(map(str, event.version))
            raise DocumentError(f"study files are YAML 1.2, not {version}; remove the line %YAML", _line(event))
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: object) -> Node:
        event = self.parser.peek_event()
        self.line = _line(event)
        self._n_nodes += 1
        self._level += 1
        _check_size(self._n_nodes, self._level, self.line)
        node = super().compose_node(parent, index)
        self._level -= 1
        return node


def _check_size(n_nodes: int, depth: int, line: int) -> None:
    if depth > _MAX_DEPTH:
        raise DocumentError(f"nested more than {_MAX_DEPTH} levels deep; a study file needs 4", line)
    if n_nodes > _MAX_NODES:
        raise DocumentError(f"more than {_MAX_NODES:,} keys and values; make the study file smaller", line)


def _line(item: Node | Event) -> int:
    """Return the line of a node or an event, counted from 1."""
    return item.start_mark.line + 1


def _compose(yaml: YAML, text: str) -> Node | None:
    try:
        return yaml.compose(text)
    except DocumentError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise DocumentError(f"not valid YAML: {shortened(problem, _MAX_PROBLEM_CHARS)}", *place) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(f"not valid YAML: contains the control character {chr(error.character)!r}", line) from None
    except Exception as error:
        # On some malformed text ruamel.yaml raises ValueError, IndexError, AssertionError and others.
        problem = shortened(first_line(error), _MAX_PROBLEM_CHARS)
        raise DocumentError(f"not valid YAML: {problem}", yaml.composer.line) from None


class _Builder:
    """Builds plain values from nodes and records their lines."""

    def __init__(self, constructor: SafeConstructor) -> None:
        self.lines: dict[Location, int] = {}
        self._constructor = constructor
        self._n_values = 0
        self._ancestors: list[Node] = []

    def build(self, node: Node, location: Location) -> object:
        """Return the value of the node at this location of the document."""
        with self._limit_expansion(node, location):
            if isinstance(node, MappingNode) and node.tag == _CORE + "map":
                return self._mapping(node, location)
            if isinstance(node, SequenceNode) and node.tag == _CORE + "seq":
                return self._sequence(node, location)
            if isinstance(node, ScalarNode):
                return self._scalar(node, location)
            raise _unknown_tag_error(node, location)

    @contextmanager
    def _limit_expansion(self, node: Node, location: Location) -> Generator[None]:
        """Limit the size that aliases expand to; the composer counts each anchored node only once."""
        if any(node is outer for outer in self._ancestors):
            raise _error_at(node, location, f"the anchor &{shortened(str(node.anchor))} contains itself")
        self._ancestors.append(node)
        self._n_values += 1
        _check_size(self._n_values, len(self._ancestors), _line(node))
        yield
        self._ancestors.pop()

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        merged: dict[str, object] = {}
        own: dict[str, object] = {}
        for key_node, value_node in sorted(node.value, key=lambda item: item[0].tag != _CORE + "merge"):
            if key_node.tag == _CORE + "merge":
                if merged:
                    raise _repeated_key_error(key_node, "<<")
                merged = self._merged(value_node, location)
                continue
            key = self._key(key_node, location)
            if key in own:
                raise _repeated_key_error(key_node, key)
            place = (*location, key)
            self.lines[place] = _line(key_node)
            own[key] = self.build(value_node, place)
        return {**merged, **own}

    def _merged(self, node: Node, location: Location) -> dict[str, object]:
        """Return the keys that `<<: *anchor` or `<<: [*first, *second]` adds; the first mapping wins."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, object] = {}
        for source in reversed(sources):
            value = self.build(source, location)
            if not isinstance(value, dict):
                raise _error_at(source, location, "<< needs an alias of a mapping, such as <<: *name")
            merged.update(value)
        return merged

    def _sequence(self, node: SequenceNode, location: Location) -> list[object]:
        values: list[object] = []
        for index, item in enumerate(node.value):
            place = (*location, index)
            self.lines[place] = _line(item)
            values.append(self.build(item, place))
        return values

    def _key(self, node: Node, location: Location) -> str:
        if not isinstance(node, ScalarNode):
            raise _error_at(node, location, "a key must be text, not a list or a mapping")
        key = self._scalar(node, location)
        if not isinstance(key, str):
            raise _error_at(node, location, f"a key must be text, not {shortened(node.value) or 'empty'}")
        if len(key) > _MAX_KEY_CHARS:
            raise _error_at(node, location, f"the key {shown(key)} has more than {_MAX_KEY_CHARS} characters")
        return key

    def _scalar(self, node: ScalarNode, location: Location) -> object:
        tag = str(node.tag)
        if tag in _TEXT_TAGS:
            return _checked_text(node, location)
        if tag == _CORE + "null":
            return None
        try:
            if tag == _CORE + "bool":
                return self._constructor.construct_yaml_bool(node)
            if tag == _CORE + "int":
                return self._int(node, location)
            if tag == _CORE + "float":
                return self._float(node, location)
        except (ValueError, LookupError):
            # For example !!int many, or 0x_.
            raise _error_at(node, location, f"{shown(node.value)} is not a number, true or false") from None
        raise _unknown_tag_error(node, location)

    def _int(self, node: ScalarNode, location: Location) -> int:
        if len(node.value) <= _MAX_NUMBER_CHARS:
            value = self._constructor.construct_yaml_int(node)
            if abs(value) < _INT_BOUND:
                return value
        raise _error_at(node, location, f"must be below 2^63 in magnitude, not {shortened(node.value)}")

    def _float(self, node: ScalarNode, location: Location) -> float:
        value = self._constructor.construct_yaml_float(node) if len(node.value) <= _MAX_NUMBER_CHARS else math.inf
        if not math.isfinite(value):
            raise _error_at(node, location, f"must be a finite number, not {shortened(node.value)}")
        return value


def _checked_text(node: ScalarNode, location: Location) -> str:
    text = node.value
    if len(text) > _MAX_TEXT_CHARS:
        raise _error_at(node, location, f"text of more than {_MAX_TEXT_CHARS:,} characters; shorten it")
    control = _CONTROL_CHARACTER.search(text)
    if control:
        raise _error_at(node, location, f"contains the control character {control[0]!r}; remove it")
    return text


def _error_at(node: Node, location: Location, message: str) -> DocumentError:
    where = ".".join(map(str, location))
    return DocumentError(f"{where}{': ' if where else ''}{message}", _line(node))


def _unknown_tag_error(node: Node, location: Location) -> DocumentError:
    return _error_at(node, location, f"the YAML tag {shown(str(node.tag))} is not supported; remove it")


def _repeated_key_error(node: Node, key: str) -> DocumentError:
    mark = node.start_mark
    return DocumentError(f"the key {key!r} is repeated here; keep one", mark.line + 1, mark.column + 1)
