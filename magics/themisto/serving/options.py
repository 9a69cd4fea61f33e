"""Options: what people write for batching and service levels, as models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from themisto.errors import Invalid
from themisto.serving.bench import BenchRequest
from themisto.serving.models import ServingConfig

__all__ = ["batch_config", "bench_request", "milliseconds", "mistake", "pairs_of", "slo_targets"]

_HOW = "Write --batch max=64,delay=100us,preferred=16+32,instances=2,cache=on,priority=1,rate=500/s, or some of it."
_DELAY = re.compile(r"^(\d{1,9})(us|ms)?\Z")
_SLO = {
    "p50": re.compile(r"^\d+(\.\d+)?ms\Z"),
    "p95": re.compile(r"^\d+(\.\d+)?ms\Z"),
    "p99": re.compile(r"^\d+(\.\d+)?ms\Z"),
    "errors": re.compile(r"^\d+(\.\d+)?%\Z"),
}


def batch_config(batch: ServingConfig | Mapping[str, Any] | str | None, warmup: int | None = None) -> ServingConfig:
    """`max=64,delay=100us,preferred=16+32`, a mapping of ServingConfig's fields, or one itself. Raises Invalid.

    The words: `max` rows in one batch, `delay` (us, ms) to wait for them, `preferred` sizes that go off at
    once, `instances`, `cache=on`, `priority` (1 is first), `rate` (requests a second, all callers together).

    >>> batch_config("max=32,delay=2ms,preferred=8+16").preferred_batches
    (8, 16)
    """
    if isinstance(batch, ServingConfig):
        fields = batch.model_dump()
    elif isinstance(batch, str):
        fields = _batch_fields(batch)
    else:
        fields = dict(batch or {})
    if warmup is not None:
        fields["warmup"] = warmup
    try:
        return ServingConfig(**fields)
    except ValidationError as error:
        raise Invalid(f"This is no batch setting: {mistake(error)}.", _HOW) from error


def _batch_fields(text: str) -> dict[str, Any]:
    fields = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        field = _FIELDS.get(name)
        found = field[1](value) if field else None
        if field is None or found is None:
            raise Invalid(f"'{part}' is no batch setting.", _HOW)
        fields[field[0]] = found
    return fields


def milliseconds(text: str) -> int:
    """`200ms` or `1s`. Raises Invalid.

    >>> milliseconds("1.5s")
    1500
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text.strip())
    if found is None:
        raise Invalid(f"'{text}' is no time.", "Write a number and a unit: 200ms or 1s.")
    return round(float(found[1]) * (1000 if found[2] == "s" else 1))


def _whole(value: str) -> int | None:
    return int(value) if value.isdigit() and len(value) < 10 else None


def _delay_us(value: str) -> int | None:
    delay = _DELAY.match(value)
    return int(delay[1]) * (1000 if delay[2] == "ms" else 1) if delay else None


def _sizes(value: str) -> tuple[int, ...] | None:
    sizes = [_whole(size) for size in value.split("+")]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


_FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "max": ("max_batch", _whole),
    "delay": ("queue_delay_us", _delay_us),
    "concurrent": ("max_concurrent", _whole),
    "preferred": ("preferred_batches", _sizes),
    "instances": ("instances", _whole),
    "cache": ("cache", {"on": True, "off": False}.get),
    "priority": ("priority", _whole),
    "rate": ("rate_per_s", lambda value: _whole(value.removesuffix("/s"))),
}


def bench_request(seconds: int, grid: Mapping[str, Any]) -> BenchRequest:
    """Raises Invalid, naming the first field that does not fit."""
    try:
        return BenchRequest(seconds=seconds, **grid)
    except ValidationError as error:
        raise Invalid(f"{mistake(error)}.", "Measure for 5 to 600 seconds: --seconds 60.") from error


def slo_targets(slo: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """`["p99=10ms", "errors=0.1%"]` as a dict. Raises Invalid for another name or unit.

    >>> slo_targets(["p99=10ms"])
    {'p99': '10ms'}
    """
    found = {}
    for name, value in pairs_of(slo):
        if name not in _SLO or not _SLO[name].match(value):
            raise Invalid(
                f"'{name}={value}' is no service level.", "Write --slo p99=10ms (p50, p95, p99) or errors=0.1%."
            )
        found[name] = value
    return found


def pairs_of(said: Mapping[str, str] | Iterable[str]) -> list[tuple[str, str]]:
    """What is said as a mapping, or as `name=value`, text by text.

    >>> pairs_of(["p99=10ms"]) == pairs_of({"p99": "10ms"})
    True
    """
    if isinstance(said, Mapping):
        return list(said.items())
    return [(name, value) for name, _, value in (text.partition("=") for text in said)]


def mistake(error: ValidationError) -> str:
    """The first thing that is wrong, and where, as the beginning of a sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    why = first["msg"].removeprefix("Value error, ")
    return f"{where}: {why}" if where else why
