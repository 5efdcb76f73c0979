"""A small reading of JSON Schema: as much of it as our schemas use."""

from collections.abc import Iterator
from typing import Any

_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def problems(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str = "$") -> Iterator[str]:
    """What about a value is not as the schema says. Knows the keywords that our schemas use, stumbles over others."""
    for keyword, rule in schema.items():
        match keyword:
            case "title" | "description" | "$defs" | "$schema" | "properties":
                pass
            case "required" | "items" | "additionalProperties" if is_a(value, "null"):
                pass  # They speak of another type.
            case "$ref":
                yield from problems(value, whole["$defs"][rule.removeprefix("#/$defs/")], whole, where)
            case "anyOf":
                if all(list(problems(value, option, whole, where)) for option in rule):
                    yield f"{where}: {value!r} is none of what it may be"
            case "enum":
                if value not in rule:
                    yield f"{where}: {value!r} is not one of {rule}"
            case "type":
                if not is_a(value, rule):
                    yield f"{where}: {value!r} is no {rule}"
            case "required":
                yield from (f"{where}: {name} is missing" for name in rule if name not in value)
            case "items":
                for index, item in enumerate(value):
                    yield from problems(item, rule, whole, f"{where}[{index}]")
            case "additionalProperties":
                known = schema.get("properties", {})
                for name in value:
                    if name in known:
                        yield from problems(value[name], known[name], whole, f"{where}.{name}")
                    elif rule is False:
                        yield f"{where}: {name} is not in the schema"
                    else:
                        yield from problems(value[name], rule, whole, f"{where}.{name}")
            case _:
                raise AssertionError(f"teach this test the keyword {keyword}")


def is_a(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])
