"""Freshness against what a view promises: how old its newest event is, offline and online."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from themisto.features.findings import Finding
from themisto.features.records import Freshness

__all__ = ["in_words", "kept", "late"]

_UNITS: Mapping[str, int] = {"d": 86400, "h": 3600, "min": 60}


def late(views: Iterable[Freshness], now: datetime) -> list[Finding]:
    """A finding for each view that does not keep its promise; online counts as soon as it was materialized."""
    found = []
    for view in views:
        told = _told(view, now)
        if told:
            online = told.startswith("online")
            found.append(
                Finding(
                    check="freshness",
                    subject=view.view,
                    severity="error",
                    detail=f"'{view.view}' promises rows at most {in_words(view.fresh_s or 0)} old; {told}.",
                    remedy=f"Run %features materialize {view.view}." if online else "Apply it with newer rows.",
                    figures={
                        "promise_s": view.fresh_s,
                        "offline_age_s": _age(view.offline_to, now),
                        "online_age_s": _age(view.online_to, now),
                    },
                )
            )
    return found


def kept(view: Freshness, now: datetime) -> str:
    """Whether the promise is kept, in words; empty where there is none."""
    if view.fresh_s is None:
        return ""
    told = _told(view, now)
    return f"no: {told}" if told else "yes"


def in_words(age_s: float) -> str:
    """An age as a person says it.

    >>> in_words(90), in_words(7200), in_words(200000)
    ('1.5 min', '2 h', '2.3 d')
    """
    for unit, length in _UNITS.items():
        if age_s >= length:
            return f"{age_s / length:.2g} {unit}" if age_s / length < 10 else f"{age_s / length:.0f} {unit}"
    return f"{age_s:.3g} s"


def _told(view: Freshness, now: datetime) -> str:
    """What breaks the promise; empty: nothing does."""
    if view.fresh_s is None:
        return ""
    offline, online = _age(view.offline_to, now), _age(view.online_to, now)
    if offline is None:
        return "it has no rows"
    if offline > view.fresh_s:
        return f"the newest is {in_words(offline)} old"
    if view.materialized_at is not None and (online is None or online > view.fresh_s):
        return f"online the newest is {in_words(online)} old" if online is not None else "online there is none"
    return ""


def _age(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
