"""Addresses: where a server answers, as a route names it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Address"]

_TCP = re.compile(r"^[A-Za-z0-9.-]{1,253}:([0-9]{1,5})$")


def _address(value: str) -> str:
    tcp = _TCP.match(value)
    unix = value.startswith("unix:/") and "\0" not in value and len(value.removeprefix("unix:")) <= 107
    if unix or (tcp and 0 < int(tcp[1]) < 65536):
        return value
    msg = "an address is host:port or unix:/path (at most 107 characters)"
    raise ValueError(msg)


Address = Annotated[str, AfterValidator(_address)]
"""`127.0.0.1:8012`, or `unix:/path/of/a/socket` for a group's own Triton."""
