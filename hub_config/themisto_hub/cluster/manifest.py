"""Manifest: typed objects as one YAML file, the same bytes for the same objects, no text of a person read as YAML."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

__all__ = ["dump", "plain"]

_WORD = re.compile(r"^[A-Za-z/][A-Za-z0-9/._-]*\Z")
_BLOCK = re.compile(r"^[\x20-\x7e]([\x20-\x7e\n]*\n)?\Z")
_YAML_1_1 = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""Words that kubectl's YAML takes for something else than text."""


def plain(message: Any) -> Any:
    """A model of the Kubernetes client as the JSON that its API server takes."""
    kinds: Mapping[str, str] | None = getattr(message, "attribute_map", None)
    if kinds is not None:
        given = {key: getattr(message, attribute) for attribute, key in kinds.items()}
        return {key: plain(value) for key, value in given.items() if value is not None}
    if isinstance(message, Mapping):
        return {str(key): plain(value) for key, value in message.items()}
    if isinstance(message, (list, tuple)):
        return [plain(value) for value in message]
    return message


def dump(objects: Iterable[Mapping[str, Any]]) -> str:
    """One document an object, by kind and name; keys sorted."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.explicit_start = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=2, offset=0)
    out = io.StringIO()
    yaml.dump_all([_quoted(one) for one in sorted(objects, key=_order)], out)
    return out.getvalue()


def _order(one: Mapping[str, Any]) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


def _quoted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _quoted(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_quoted(one) for one in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Plain where every YAML agrees what it is, else quoted."""
    if _WORD.match(value) and value.lower() not in _YAML_1_1:
        return value
    block = "\n" in value and _BLOCK.match(value) and " \n" not in value
    quoted: str = LiteralScalarString(value) if block else DoubleQuotedScalarString(value)
    return quoted
