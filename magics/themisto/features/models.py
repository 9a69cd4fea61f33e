"""Entities, feature views and feature services: what is known about whom, since when, and who reads it.

The words mean what they mean in Feast: an Entity is a key, a FeatureView a table of features by key
and event time, a FeatureService a named, versioned selection that a model uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr, model_validator

from themisto.errors import Invalid
from themisto.features.columns import DESCRIBED, SAID_OF_COLUMNS, Column, Feature, Tags, Text, asked_for, typed
from themisto.features.dtypes import KEY_DTYPES, Dtype
from themisto.features.expectations import Expect, check_columns
from themisto.features.nouns import Noun, fields_of, listed, seconds
from themisto.features.on_demand import OnDemand
from themisto.features.topics import Topic, check_stream
from themisto.features.transforms import Transform
from themisto.features.windows import Aggregate, Windows
from themisto.types import Identifier, Json, Model

__all__ = ["Column", "Entity", "Feature", "FeatureService", "FeatureView", "OnMissing", "Online"]

OnMissing = Literal["refuse", "null", "default", "last"]
"""What a prediction by key does when the store has no row, or does not answer in time: refuse it (404, 503), send
null (NaN, empty text), send the service's defaults, or go on with the last value, however old; an entity that
has none is refused."""


class Online(Model):
    """How the online store keeps a view.

    keep: newest rows of an entity, for reads of its history.
    ttl_s: seconds after its event time when a row is gone; None: never.
    consistency: Cassandra's word for how many replicas answer, in place of the store's own.
    compaction: Cassandra's class name; by default the store's choice.
    """

    keep: Annotated[int, Field(ge=1, le=20_000)] = 1
    ttl_s: PositiveFloat | None = None
    consistency: Literal["ONE", "LOCAL_ONE", "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL"] | None = None
    compaction: (
        Literal["UnifiedCompactionStrategy", "TimeWindowCompactionStrategy", "LeveledCompactionStrategy"] | None
    ) = None


class Entity(Noun):
    """Whom features are about: a name and the key columns.

    >>> Entity("airport", keys=["origin"]).keys
    ('origin',)
    """

    name: Identifier
    keys: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=8)]
    description: Text = ""

    def __init__(self, name: str, *, keys: Sequence[str] | str, description: str = "") -> None:
        super().__init__(name=name, keys=(keys,) if isinstance(keys, str) else tuple(keys), description=description)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as above


class FeatureView(Noun):
    """A table of features by key and event time.

    name: the view's name.
    entity: whom the features are about; its keys are columns of the source.
    at: the column with the event time: when it was so. Naive times are read as UTC; resolution µs.
    created: the column that says when the row was written. Of rows with one key and event time the one
        created last counts; among equals, the one that stands last in the source.
    ttl: how long a row holds (`"3h"`, seconds, timedelta); None: until the next one.
    features: names, Features, or names with types (`{"temp": "float64"}`); default: every other column of the source.
    source: DataFrame (pandas, polars), Arrow table or path of a Parquet file. The definition is what the registry
        keeps; the rows travel as data.
    transform: what makes the view's rows of the source: one SELECT over `source`, or a function of a DataFrame.
    aggregates: Aggregates over the source's rows, which are events then; `features` are the columns of these.
    every: how long a bucket of events is; windows are multiples of it (see `themisto.features.windows`).
    sequence: the integer column that tells events of one entity and time apart.
    stream: the Topic, or its name, whose messages are rows of the source from now on, beside those it comes with.
    fresh: how old the newest event may be, as a promise to those who read it.
    online: how the online store keeps it.
    expect: what its rows must be like; others are kept apart (see `Expect`).

    What it means to the data makes the version (name, keys, times, types, ttl); owner, tags, descriptions, personal
    marks, `fresh`, `online` and `expect` are changed in place.
    Raises Invalid for a name that is no identifier, a column that is not there or of no usable type.
    """

    SAID: ClassVar[dict[str, Any]] = DESCRIBED | {
        **dict.fromkeys(("version", "fresh_s", "online", "expect"), True),
        "entity": {"description": True},
        "keys": SAID_OF_COLUMNS,
        "features": SAID_OF_COLUMNS,
        "windows": {"inputs": SAID_OF_COLUMNS},
    }

    name: Identifier
    entity: Entity
    keys: Annotated[tuple[Column, ...], Field(min_length=1)]
    features: Annotated[tuple[Column, ...], Field(min_length=1, max_length=500)]
    at: Identifier
    created: Identifier | None = None
    ttl_s: PositiveFloat | None = None
    fresh_s: PositiveFloat | None = None
    transform: Transform | None = None
    windows: Windows | None = None
    stream: Topic | None = None
    online: Online = Online()
    expect: Annotated[tuple[Expect, ...], Field(max_length=500)] = ()
    description: Text = ""
    owner: Text = ""
    tags: Tags = ()
    version: PositiveInt | None = None
    _source: Any = PrivateAttr(None)

    def __init__(
        self,
        name: str,
        *,
        entity: Entity | Mapping[str, Any],
        at: str,
        created: str | None = None,
        ttl: str | float | timedelta | None = None,
        features: Sequence[str | Feature | Column | Mapping[str, Any]] | Mapping[str, str] | None = None,
        source: Any = None,
        fresh: str | float | timedelta | None = None,
        online: Online | Mapping[str, Any] | None = None,
        keys: Sequence[Column | Mapping[str, Any]] = (),
        ttl_s: float | None = None,
        fresh_s: float | None = None,
        transform: str | Callable[..., Any] | Transform | Mapping[str, Any] | None = None,
        aggregates: Sequence[Aggregate] = (),
        every: str | float | timedelta | None = None,
        sequence: str | None = None,
        windows: Windows | Mapping[str, Any] | None = None,
        stream: str | Topic | Mapping[str, Any] | None = None,
        **said: Any,
    ) -> None:
        whom = entity if isinstance(entity, Entity) else Entity(**fields_of(entity, f"FeatureView {name}"))
        asked = None if features is None else asked_for(features)
        if aggregates and asked is None:
            asked = [{"name": n} for n in dict.fromkeys(a.column for a in aggregates) if n != "*"]
        made = Transform.of(transform, view=name)
        found: Mapping[str, Dtype] = {}
        if source is not None:
            from themisto.features.sources import dtypes_of

            if made is not None:
                made = made.on(source, view=name)
                source = made.rows(source, view=name)
            names = None if asked is None else [f["name"] for f in asked]
            found = dtypes_of(source, whom.keys, at, created, names, view=name)
            keys = [{"name": k, "dtype": found[k]} for k in whom.keys]
            if asked is None:
                asked = [{"name": n} for n in found if n not in whom.keys]
        columns = typed(name, asked, found)
        if not aggregates and (every is not None or sequence is not None):
            raise Invalid(f"FeatureView {name}: it has no aggregates.", "every= and sequence= go with aggregates=.")
        if aggregates:
            windows = Windows.of(name, aggregates, every, sequence, columns)
            columns = windows.features
        super().__init__(
            name=name,
            entity=whom,
            keys=tuple(keys) or tuple({"name": k, "dtype": "string"} for k in whom.keys),
            features=columns,
            at=at,
            created=created,
            ttl_s=seconds(ttl) if ttl is not None else ttl_s,
            fresh_s=seconds(fresh) if fresh is not None else fresh_s,
            transform=made,
            windows=windows,
            stream=Topic(stream) if isinstance(stream, str) else stream,
            online=online or Online(),
            **said,
        )
        self._source = source

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # JSON is read by the fields, not by this

    @model_validator(mode="after")
    def _roles(self) -> Self:
        names = [*self.entity.keys, *self.times, *(f.name for f in self.features)]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise Invalid(f"FeatureView {self.name}: {', '.join(twice)} is named twice.", "A column has one role.")
        fitting = tuple(k.name for k in self.keys) == self.entity.keys
        if not fitting or any(k.dtype not in KEY_DTYPES for k in self.keys):
            raise Invalid(
                f"FeatureView {self.name}: its keys do not fit its entity.", "Keys are text, integers or bool."
            )
        check_columns(self.name, self.expect, {c.name: c.dtype for c in (*self.keys, *self.stored)})
        return self

    @model_validator(mode="after")
    def _windowed(self) -> Self:
        if self.windows is None:
            return self
        events = [*self.entity.keys, *self.times, *(c.name for c in self.windows.stored)]
        if len(set(events)) < len(events) or self.features != self.windows.features:
            raise Invalid(
                f"FeatureView {self.name}: its features are not those of its windows.",
                "Aggregate columns that are neither keys, times nor the sequence; the names follow from that.",
            )
        if self.ttl_s is not None or self.online.ttl_s is not None or self.online.keep != 1:
            raise Invalid(f"FeatureView {self.name}: its windows say how long rows are kept.", "Leave ttl, keep out.")
        return self

    @model_validator(mode="after")
    def _streamed(self) -> Self:
        if self.stream is not None:
            check_stream(self.name, self.transform)
        return self

    @property
    def stored(self) -> tuple[Column, ...]:
        """What the offline store keeps of a row beside its key and times."""
        return self.features if self.windows is None else self.windows.stored

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that say which row it is; there is one of each."""
        if self.windows is None:
            return (*self.entity.keys, *self.times)
        named = () if self.windows.sequence is None else (self.windows.sequence,)
        return (*self.entity.keys, self.at, *named)

    @property
    def times(self) -> tuple[str, ...]:
        """The columns with its times: event time and, if it has one, created time."""
        return (self.at,) if self.created is None else (self.at, self.created)

    @property
    def source(self) -> Any:
        """The rows it was made with, in this process only."""
        return self._source

    def __eq__(self, other: object) -> bool:
        """Definitions are equal; the rows they came with are not looked at."""
        return isinstance(other, FeatureView) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.name, self.at, self.keys, self.features))

    def with_version(self, version: int) -> Self:
        return self.model_copy(update={"version": version})


_Ref = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}(:[a-z][a-z0-9_]{0,47})?$")]


class FeatureService(Noun):
    """A named selection of features that a model uses; each change of it is a new version.

    features: `"view:feature"`, `"view"` for all features of a view, or FeatureViews.
    on_missing: what a prediction by key does when there is no row: "refuse", "null", "default" or "last".
    defaults: values by column name, for "default".
    max_age: rows older than this count as missing online (`"1h"`), except for "last"; None: any age, shown with
        the answer.
    on_demand: features that are computed at the request, of these and of what the request brings.
    """

    SAID: ClassVar[dict[str, Any]] = {"description": True}

    name: Identifier
    features: Annotated[tuple[_Ref, ...], Field(min_length=1)]
    on_demand: Annotated[tuple[OnDemand, ...], Field(max_length=100)] = ()
    on_missing: OnMissing = "refuse"
    defaults: Mapping[str, Json] = {}
    max_age_s: PositiveFloat | None = None
    description: Text = ""

    def __init__(
        self,
        name: str,
        *,
        features: Sequence[str | FeatureView] | str | FeatureView,
        on_demand: Sequence[OnDemand | Mapping[str, Any]] = (),
        on_missing: OnMissing = "refuse",
        defaults: Mapping[str, Any] | None = None,
        max_age: str | float | timedelta | None = None,
        description: str = "",
        max_age_s: float | None = None,
    ) -> None:
        super().__init__(
            name=name,
            features=tuple(f.name if isinstance(f, FeatureView) else f for f in listed(features)),
            on_demand=tuple(on_demand),
            on_missing=on_missing,
            defaults=defaults or {},
            max_age_s=seconds(max_age) if max_age is not None else max_age_s,
            description=description,
        )

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as above
