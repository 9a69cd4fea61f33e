"""Columns: what a key or a feature is called, its type, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from themisto.errors import Invalid
from themisto.features.dtypes import OIP, Dtype
from themisto.features.nouns import Noun
from themisto.types import Identifier, Model

__all__ = ["DESCRIBED", "SAID_OF_COLUMNS", "Column", "Feature", "Tags", "Text", "asked_for", "quoted", "typed"]

Text = Annotated[str, Field(max_length=2000)]
Tags = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=48)], ...], Field(max_length=20)]
DESCRIBED: dict[str, Any] = {"description": True, "owner": True, "tags": True}
SAID_OF_COLUMNS: dict[str, Any] = {"__all__": DESCRIBED | {"personal": True}}


class Column(Model):
    """A typed column, and what is said of it.

    nullable: whether a row may have no value. Entities without a row have none in any case.
    personal: whether the value is about a person.
    """

    name: Identifier
    dtype: Dtype
    nullable: bool = True
    description: Text = ""
    owner: Text = ""
    tags: Tags = ()
    personal: bool = False

    @property
    def oip(self) -> str:
        """The Open Inference Protocol's word for the type."""
        return OIP[self.dtype]


class Feature(Noun):
    """A feature of a view, where more is to be said of it than its name; its type comes from the source.

    >>> Feature("income", personal=True, description="EUR a year").personal
    True
    """

    name: Identifier
    dtype: Dtype | None = None
    nullable: bool = True
    description: Text = ""
    owner: Text = ""
    tags: Tags = ()
    personal: bool = False

    def __init__(self, name: str, dtype: str | None = None, **said: Any) -> None:
        super().__init__(name=name, dtype=dtype, **said)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as in Noun


def quoted(name: str) -> str:
    """A column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def asked_for(features: Any) -> list[dict[str, Any]]:
    """Names, Features or names with types, as what is known of each column."""
    if isinstance(features, Mapping):
        return [{"name": n, "dtype": d} for n, d in features.items()]
    return [_asked(f) for f in features]


def _asked(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return {"name": given}
    said = given.model_dump(exclude_defaults=True) if isinstance(given, Model) else dict(given)
    return {name: value for name, value in said.items() if value is not None}


def typed(view: str, asked: list[dict[str, Any]] | None, found: Mapping[str, Dtype]) -> tuple[Any, ...]:
    """Columns of what was asked for; a type that was said counts more than the source's. Raises Invalid."""
    columns = [{"dtype": found.get(f["name"])} | f for f in asked or ()]
    if asked is None or any(c["dtype"] is None for c in columns):
        raise Invalid(
            f"FeatureView {view}: the types of its features are not known.",
            "Give source=, or write features={'temp': 'float64', …}.",
        )
    return tuple(columns)
