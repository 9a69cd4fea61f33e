"""Topics: where the events of a view come from while they happen, and how their messages are to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from themisto.errors import Invalid
from themisto.features.nouns import Noun
from themisto.features.transforms import Transform

__all__ = ["Topic", "TopicName", "check_stream"]

TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}$")]
"""As Kafka allows it: letters, digits, `.`, `_`, `-`; at most 249 characters."""


class Topic(Noun):
    """A topic of the workbench's Kafka: each message is one row of a view, or of what its transform takes.

    format: "json": an object whose fields are called like the columns; others are not looked at.
    times: how a time is written: "iso" for text (2026-01-31T12:00:00Z; without a zone it is UTC), or a number since
        1970: "s", "ms", "us".
    start: where a version of a view begins to read: at the "earliest" message that Kafka still has, or with the
        next one, "latest".

    >>> Topic("payments", times="ms").start
    'earliest'
    """

    name: TopicName
    format: Literal["json"] = "json"
    times: Literal["iso", "s", "ms", "us"] = "iso"
    start: Literal["earliest", "latest"] = "earliest"

    def __init__(self, name: str, **how: Any) -> None:
        super().__init__(name=name, **how)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as in Noun

    def __str__(self) -> str:
        return f"{self.name} ({self.format}, times {self.times}, from the {self.start})"


def check_stream(view: str, transform: Transform | None) -> None:
    """Raises Invalid where a topic's messages cannot become rows by themselves."""
    if transform is None:
        return
    if transform.language == "python":
        raise Invalid(f"FeatureView {view}: the rows of a topic are not transformed by Python.", "Write it as SQL.")
    if not transform.takes:
        raise Invalid(
            f"FeatureView {view}: the types of its messages are not known.",
            "Give source=, some rows as the messages have them, so that the transform's columns have types.",
        )
