"""What `apply` would change: the definition against the one on record, and what that means to the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

from themisto.features.models import Entity, FeatureView
from themisto.features.records import ServiceSpec
from themisto.features.resolve import changed
from themisto.types import Model

__all__ = ["Change", "Effect", "change_of", "change_of_service"]

Effect = Literal["new", "nothing", "said", "version"]
"""new: there was none of the name. nothing: it is on record as it is. said: descriptions, owners, marks and how it is
kept online are changed in place. version: it means something else, and is the next version."""

_DATA: Mapping[tuple[str, Effect], str] = {
    ("view", "new"): "its rows are stored; %features materialize brings them online",
    ("view", "nothing"): "rows that differ take the place of those it came with",
    ("view", "said"): "nothing",
    ("view", "version"): "its rows are stored anew; materialize it (a backfill) before a service reads it online",
    ("service", "new"): "nothing",
    ("service", "nothing"): "nothing",
    ("service", "version"): "nothing; releases go on with the version they were made with",
    ("entity", "new"): "nothing",
    ("entity", "nothing"): "nothing",
    ("entity", "said"): "nothing",
    ("entity", "version"): "nothing; views keep the keys they were made with",
}
_JUDGED = "its rows are judged anew: now where rows come with it, else by the next %features materialize"


class Change(Model):
    """The difference of one definition: lines such as `ttl: 3h -> 6h`, and what happens to data."""

    kind: Literal["entity", "view", "service"]
    name: str
    effect: Effect
    lines: tuple[str, ...] = ()

    @property
    def data(self) -> str:
        """What applying it does to data, in words."""
        if self.effect == "said" and any(line.startswith("expect: ") for line in self.lines):
            return _JUDGED
        return _DATA[self.kind, self.effect]


def change_of(old: Entity | FeatureView | None, new: Entity | FeatureView) -> Change:
    """What applying `new` changes about `old`, the newest on record."""
    kind: Literal["entity", "view"] = "view" if isinstance(new, FeatureView) else "entity"
    if old is None:
        return Change(kind=kind, name=new.name, effect="new")
    lines = tuple(_lines(_content(old), _content(new)))
    meant = old.content_hash() != new.content_hash()
    return Change(kind=kind, name=new.name, effect="version" if meant else "said" if lines else "nothing", lines=lines)


def change_of_service(old: ServiceSpec | None, new: ServiceSpec) -> Change:
    """As `change_of`, for services resolved on their views: a new version of a view makes one of the service."""
    if old is None:
        return Change(kind="service", name=new.name, effect="new")
    before, after = (spec.model_dump(mode="json", exclude=_OF_VIEWS) for spec in (old, new))
    lines = tuple(_lines(before, after))
    return Change(kind="service", name=new.name, effect="version" if changed(old, new) else "nothing", lines=lines)


def _content(noun: Entity | FeatureView) -> dict[str, Any]:
    """What can be changed of a definition; expectations in their words."""
    content = noun.model_dump(mode="json", exclude={"version", "name"})
    if isinstance(noun, FeatureView):
        content["expect"] = [f"{expect.column} {said}" for expect in noun.expect for said in expect.says]
    return content


_OF_VIEWS: dict[str, Any] = {"name": True, "version": True, "online": True, "columns": {"__all__": {"personal"}}}


def _lines(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Sequence[str]:
    found: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        where = f"{path}{key}"
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _lines(old, new, f"{where}.")
        elif _named(old) and _named(new):
            found += _lines(_by_name(old), _by_name(new), f"{where}.")
        elif isinstance(old, dict) or (old is None and isinstance(new, dict)):
            found.append(f"{where}: {'added' if old is None else 'gone'}")
        else:
            found.append(f"{where}: {_told(old)} -> {_told(new)}")
    return found


def _named(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def _by_name(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in items}


def _told(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
