"""Profiles as the platform keeps them: one YAML file each; a mistake is named with its file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from themisto.errors import Conflict, Invalid, NotFound
from themisto.profiles import Gpu, Profile, Use

__all__ = ["allowed", "gpu_resources", "load_profiles"]

_UNITS = {"cpu": "a number of cores", "memory_gib": "a number of GiB, without a unit"}


def load_profiles(folder: Path) -> list[Profile]:
    """All profiles of a folder, cheapest first.

    Raises Invalid (file, line, what is wrong), Conflict for a name used twice, NotFound for a folder without any.
    """
    files = sorted(p for p in folder.glob("*.y*ml") if p.suffix in (".yaml", ".yml"))
    if not files:
        raise NotFound(f"There are no profiles in {folder}.", "Set THEMISTO_PROFILES_DIR to a folder of YAML files.")
    found: dict[str, tuple[Profile, Path]] = {}
    for file in files:
        stat = file.stat()
        profile = _load(file, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        if profile.name in found:
            raise Conflict(
                f"{found[profile.name][1]} and {file} both name the profile '{profile.name}'.", "Rename one."
            )
        found[profile.name] = profile, file
    return sorted((p for p, _ in found.values()), key=lambda p: (p.price_per_hour, p.name))


def allowed(profiles: Iterable[Profile], groups: Iterable[str], use: Use) -> list[Profile]:
    """Those that a member of `groups` may use for `use`."""
    mine = frozenset(groups)
    return [p for p in profiles if mine.intersection(p.groups) and use in p.uses]


def gpu_resources(gpu: Gpu | None) -> dict[str, str]:
    """What a pod asks for, by the resource names of NVIDIA's device plugin."""
    if gpu is None:
        return {}
    name = f"nvidia.com/mig-{gpu.mig.replace('+', '.')}" if gpu.mig else "nvidia.com/gpu"
    return {name: str(gpu.count)}


@lru_cache(maxsize=256)
def _load(file: Path, stamp: tuple[int, int, int]) -> Profile:
    """The profile in `file`; `stamp` is new whenever the file is."""
    del stamp
    try:
        data = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Invalid(f"{file}:{line}: {error.problem or 'this is not YAML'}.", "Correct that line.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"{file}: {error}.", "Write plain YAML in UTF-8.") from None
    if not isinstance(data, dict):
        raise Invalid(f"{file}:1: a profile is a list of 'key: value' lines.", "See profiles/ for examples.")
    try:
        return Profile.model_validate(_plain(data))
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", _line(data, e["loc"])))
        detail, remedy = _words(first)
        raise Invalid(f"{file}:{_line(data, first['loc'])}: {detail}.", remedy) from None


def _plain(value: Any) -> Any:
    """ruamel's annotated containers as plain ones."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _line(data: Any, loc: tuple[int | str, ...]) -> int:
    """Line of the innermost key that `loc` leads to, counted from 1."""
    line = 1
    for part in loc:
        try:
            where = data.lc.item(part) if isinstance(part, int) else data.lc.key(part)
            line = where[0] + 1
            data = data[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _words(error: ErrorDetails) -> tuple[str, str]:
    """What is wrong and what to do."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Profile.model_fields, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]} ({_UNITS.get(near[0], 'see profiles/ for examples')})?" if near else ""
        return f"unknown key '{key}'", hint or f"A profile has: {', '.join(Profile.model_fields)}."
    if error["type"] == "missing":
        return f"'{key}' is missing", f"Add it: {_UNITS.get(key, 'see profiles/ for examples')}."
    given = repr(error["input"])
    return f"{key}: {given} will not do, {error['msg'][0].lower()}{error['msg'][1:]}", (
        f"Write {_UNITS[key]}." if key in _UNITS else "See profiles/ for examples."
    )
