"""All that can be told to be wrong with a service, its rows and the training rows made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid, MissingSetting, NotFound, Unavailable
from themisto.features.answers import Answer, joined
from themisto.features.comparing import Comparison
from themisto.features.findings import Finding, Findings
from themisto.features.join import point_in_time, time_column
from themisto.features.leakage import from_the_future
from themisto.features.likeness import unlike
from themisto.features.models import FeatureView
from themisto.features.promises import late
from themisto.features.records import RegisteredView, ServiceSpec
from themisto.features.registry import Registry
from themisto.features.sources import as_table
from themisto.features.splits import split_over
from themisto.features.targets import target_like
from themisto.types import utcnow

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Checking"]


_AT_ONCE = 100
_MOST = 10_000


class Checking:
    """The checks of one service; `findings` makes those that it is given enough for, and says of the others why not.

    held: each of its views, and a file of its rows that stays.
    sample, seed: how many entities of each view are read online, and which.
    """

    def __init__(
        self,
        registry: Registry,
        spec: ServiceSpec,
        held: Mapping[str, tuple[RegisteredView, Path]],
        *,
        sample: int = 100,
        seed: int = 0,
    ) -> None:
        if not 1 <= sample <= _MOST:
            raise Invalid(f"A sample of {sample} entities.", f"Write a number from 1 to {_MOST}.")
        self._registry, self._spec = registry, spec
        self._sample, self._seed = sample, seed
        self._views: Mapping[str, FeatureView] = {name: registered.view for name, (registered, _) in held.items()}
        self._files: Mapping[str, Path] = {name: path for name, (_, path) in held.items()}
        self._fresh = {f.view: f for f in registry.freshness() if f.view in spec.views}
        self._found: list[Finding] = []
        self._skipped: dict[str, str] = {}

    def findings(self, rows: Any | None, *, label: str | None, at: str | None, split: str | Any | None) -> Findings:
        """rows: training rows, as DataFrame (pandas, polars) or Arrow table."""
        against = None if rows is None else _frame(rows)
        split = split if split is None or isinstance(split, str) else _frame(split)
        self._found += late(self._fresh.values(), utcnow())
        if self._spec.windows:
            named = ", ".join(self._spec.windows)
            self._skipped["windows"] = f"leakage, skew and likeness look at rows, and {named} has windows of events"
        self._skew(against)
        if against is None:
            self._found += unlike(self._spec, self._files, None)
            self._skipped |= dict.fromkeys(("leakage", "target", "split"), "it needs training rows (--against)")
            return Findings(self._found, skipped=self._skipped)
        if self._given(against):
            self._found += unlike(self._spec, self._files, against)
        self._training(against, label, at, split)
        return Findings(self._found, skipped=self._skipped)

    def _skew(self, against: pd.DataFrame | None) -> None:
        if not any(f.materialized_at for f in self._fresh.values()):
            self._skipped["skew"] = "nothing of it is online (%features materialize)"
            return
        comparison = Comparison(self._spec, self._files, self._views)
        entities = comparison.entities(self._sample, self._seed, against)
        if not entities:
            self._skipped["skew"] = "one of its views has no rows"
            return
        try:
            online = self._read(entities)
        except (NotFound, Unavailable) as error:
            self._skipped["skew"] = error.detail
            return
        self._found += comparison.findings(entities, online, self._fresh, utcnow())

    def _read(self, entities: Sequence[Mapping[str, Any]]) -> Answer:
        """In parts, so that none is larger than a read may be."""
        ref = self._spec.ref
        return joined([self._registry.read(ref, entities[i : i + _AT_ONCE]) for i in range(0, len(entities), _AT_ONCE)])

    def _training(
        self, against: pd.DataFrame, label: str | None, at: str | None, split: str | pd.DataFrame | None
    ) -> None:
        """What is asked of training rows: keys, time and, if they were joined, features."""
        keys = [k.name for k in self._spec.keys]
        try:
            at = at or time_column(against, {name: view.at for name, view in self._views.items()})
        except Invalid as error:
            at, why = None, str(error)
        else:
            why = f"the rows need {', '.join(keys)} and {at}"
        if at is None or any(n not in against.columns for n in (*keys, at)):
            self._skipped |= dict.fromkeys(("leakage", "split"), why)
            joined = against
        else:
            self._found += from_the_future(against, at, self._spec, self._files, self._views)
            joined = self._joined(against, at)
            self._split(joined, split, keys, at)
        if label is None:
            self._skipped["target"] = "say which column is the label (--label)"
            return
        try:
            self._found += target_like(joined, [c.name for c in self._spec.columns], label, seed=self._seed)
        except MissingSetting as error:
            self._skipped["target"] = str(error)

    def _split(self, joined: pd.DataFrame, split: str | pd.DataFrame | None, keys: list[str], at: str) -> None:
        import pandas as pd

        if split is None:
            self._skipped["split"] = "say how the rows are split (--split)"
            return
        if isinstance(split, str):
            if split not in joined.columns:
                raise Invalid(
                    f"There is no column '{split}'.", f"There are {', '.join(map(str, joined.columns[:20]))}."
                )
            rows, parts = joined, joined[split].astype("str").where(joined[split].notna())
        else:
            absent = [n for n in (*keys, at) if n not in split.columns]
            if absent:
                raise Invalid(f"The other part has no column {', '.join(absent)}.", "Give rows as those of --against.")
            rows = pd.concat([joined, self._joined(split, at)], ignore_index=True)
            parts = pd.Series(["the rows"] * len(joined) + ["the other part"] * len(split))
        self._found += split_over(rows, parts, keys, at, [c.name for c in self._spec.columns])

    def _joined(self, frame: pd.DataFrame, at: str) -> pd.DataFrame:
        """The rows with the service's features: those they have, or else those of their time."""
        if self._given(frame):
            return frame
        joined: pd.DataFrame = point_in_time(frame, at, self._spec, self._files, self._views)
        return joined

    def _given(self, frame: pd.DataFrame) -> bool:
        return not {c.name for c in self._spec.columns}.isdisjoint(map(str, frame.columns))


def _frame(rows: Any) -> pd.DataFrame:
    """Raises Invalid for what is no table."""
    return rows if hasattr(rows, "iloc") else as_table(rows).to_pandas()
