"""Frames: entities as a person gives them, and what was read online of them, as DataFrames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, did_you_mean
from themisto.features.answers import Answer
from themisto.features.dtypes import from_json
from themisto.features.reading import cast_key
from themisto.features.records import ServiceSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["chosen", "entities_in", "frame_of", "last_of"]

_TIME = "datetime64[us, UTC]"


def entities_in(spec: ServiceSpec, given: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], pd.DataFrame]:
    """Keys as they were given, a value or a list each, a row an entity. Raises Invalid for others than its keys."""
    import pandas as pd

    by_name = {k.name: k for k in (*spec.keys, *spec.request)}
    needed = [k.name for k in spec.keys]
    if not set(needed) <= given.keys() <= by_name.keys():
        raise Invalid(f"{spec.ref} is read by {', '.join(needed)}.", f"Give {'=…, '.join(needed)}=….")
    lists = {name: _listed(value) for name, value in given.items()}
    lengths = {len(values) for values in lists.values()}
    if len(lengths) != 1:
        raise Invalid("The keys are of different lengths.", "Give each key the same number of values.")
    entities = [
        {name: cast_key(by_name[name], values[i]) for name, values in lists.items()} for i in range(lengths.pop())
    ]
    return entities, pd.DataFrame(entities, columns=[name for name in by_name if name in given])


def chosen(spec: ServiceSpec, features: Sequence[str]) -> list[str]:
    """The features asked for. Raises Invalid for one that is none."""
    names = [c.name for c in spec.outputs]
    unknown = [name for name in features if name not in names]
    if unknown:
        raise Invalid(f"{spec.ref} has no feature '{unknown[0]}'.", did_you_mean(unknown[0], names))
    return list(features)


def frame_of(answer: Answer, index: pd.Index[Any]) -> pd.DataFrame:
    """One row an entity: the features, and `event_time`, the oldest of its views'."""
    import pandas as pd

    rows = [[from_json(c.dtype, v) for c, v in zip(answer.columns, row, strict=True)] for row in answer.rows]
    values = pd.DataFrame(rows, columns=[c.name for c in answer.columns], index=index)
    return values.assign(event_time=pd.Series(answer.event_times, dtype=_TIME, index=index))


def last_of(answer: Answer, keys: pd.DataFrame) -> pd.DataFrame:
    """The last values: one row an entity and event time, the newest first, entities in their order.

    A view without a row at that time has nulls; an entity without any row is not there.
    """
    import pandas as pd

    names = [c.name for c in answer.columns]
    made: list[dict[str, Any]] = []
    entities: Any = keys.to_dict("records")
    for i, entity in enumerate(entities):
        rows: dict[Any, dict[str, Any]] = {}
        for column in answer.columns:
            moments: Any = answer.views[str(column.view)].event_times[i]
            values: Any = column.values[i]
            for moment, value in zip(moments, values, strict=True):
                rows.setdefault(moment, {})[column.name] = from_json(column.dtype, value)
        made += [entity | rows[moment] | {"event_time": moment} for moment in sorted(rows, reverse=True)]
    frame = pd.DataFrame(made, columns=[*keys.columns, *names, "event_time"])
    return frame.astype({"event_time": _TIME})


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        return [value]
    return list(value)
