"""Client: ask a deployed model with a DataFrame and get one back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from themisto.errors import Invalid, NotFound, Unavailable
from themisto.serving.frame import columns_of, pick, tensors, to_frame
from themisto.serving.gateway import Gateway
from themisto.serving.lookup import endpoint_of, release_of
from themisto.serving.models import Column, Endpoint, EndpointName, Release
from themisto.serving.observing import Observing
from themisto.serving.trace import Trace, traced

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["EndpointClient"]

_KNOWN_FOR_S = 60.0
_AT_ONCE = 8


class EndpointClient:
    """`themisto.endpoint("credit")`: one endpoint's predictions, through the gateway.

    The hub and the control plane are asked for names, columns and a token only; once these are known
    they may be down.
    """

    def __init__(self, name: EndpointName, control: ControlPlane, gateway: Gateway | None = None) -> None:
        self.name = name
        self._control = control
        self._gateway = gateway or Gateway(control)
        self._known: tuple[Release, float] | None = None

    def __repr__(self) -> str:
        return f"themisto.endpoint({self.name!r})"

    def predict(self, frame: pd.DataFrame, *, key: str | None = None, timeout_s: float | None = None) -> pd.DataFrame:
        """The answers to `frame`, one row each, with its index and the outputs as columns.

        frame: the model's columns, others are left out; or, for an endpoint with a feature service, the
            entity's key columns alone: the gateway looks the features up.
        key: a column whose value decides which release answers (sticky); by default one release
            answers the whole call.
        timeout_s: for each request, seconds.

        `.attrs["release"]` names the release that answered, `credit@7`; where keys led to several, it is
        their names with commas and `.attrs["releases"]` has one for each row. Where the chosen release could
        not answer, `.attrs["fallback"]` says what did: earlier, rule or default. `.attrs["trace_id"]` is the id
        under which the gateway knows the call. Raises Invalid for wrong columns, NotFound, Refused, Unavailable.
        """
        if not isinstance(frame, pd.DataFrame):
            raise Invalid(f"predict takes a DataFrame, not a {type(frame).__name__}.", "Wrap it: pd.DataFrame(…).")
        if frame.empty:
            raise Invalid("The DataFrame has no rows.", "Give at least one.")
        return self._predict(frame, self._groups(frame, key), timeout_s)

    def predict_as(self, frame: pd.DataFrame, sticky: str) -> pd.DataFrame:
        """`predict` with all rows under one sticky key: while shares stay, the same key leads to the same release."""
        return self._predict(frame, [(sticky, np.arange(len(frame)))], None)

    def stable(self) -> Release:
        """The release that carries the rest of the traffic, looked up now. Raises NotFound."""
        self._known = None
        return self._release()

    def answering(self) -> list[str]:
        """Releases that have a share of the traffic now: `["credit@7", "credit@8"]`."""
        found = endpoint_of(self._control, self.name)
        numbers = [found.stable, found.candidate if found.weight_pct else None]
        return [f"{self.name}@{number}" for number in numbers if number is not None]

    def label(self, frame: pd.DataFrame, *, on: str = "request_id", label: str = "label") -> dict[str, int]:
        """Say what turned out to be true about earlier predictions; see `Observing.label`."""
        return Observing(self._control, self.name).label(frame, on=on, label=label)

    def _predict(
        self, frame: pd.DataFrame, groups: Sequence[tuple[str, np.ndarray[Any, Any]]], timeout_s: float | None
    ) -> pd.DataFrame:
        with traced(self.name) as trace:
            try:
                return self._ask(frame, groups, self._release(), timeout_s, trace)
            except Invalid:
                if not self._forget_if_replaced():
                    raise
            return self._ask(frame, groups, self._release(), timeout_s, trace)

    def _groups(self, frame: pd.DataFrame, key: str | None) -> list[tuple[str, np.ndarray[Any, Any]]]:
        """`(value of the sticky header, row positions)`."""
        if key is None:
            return [(uuid.uuid4().hex, np.arange(len(frame)))]
        if key not in frame.columns:
            raise Invalid(f"There is no column '{key}' to stick to.", f"Columns: {', '.join(map(str, frame.columns))}.")
        codes, values = pd.factorize(frame[key].astype(str))
        return [(str(value), np.flatnonzero(codes == code)) for code, value in enumerate(values)]

    def _ask(
        self,
        frame: pd.DataFrame,
        groups: Sequence[tuple[str, np.ndarray[Any, Any]]],
        release: Release,
        timeout_s: float | None,
        trace: Trace,
    ) -> pd.DataFrame:
        columns, arrays = self._request(frame, release)
        batches = list(_batches(groups, release.serving.max_batch))

        def one(batch: tuple[str, np.ndarray[Any, Any]]) -> Any:
            sticky, rows = batch
            part = {name: array[rows] for name, array in arrays.items()}
            return self._gateway.infer(
                self.name, columns, part, key=sticky, timeout_s=timeout_s, traceparent=trace.header
            )

        if len(batches) == 1:
            answers = [one(batches[0])]
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(batches))) as pool:
                answers = list(pool.map(one, batches))
        order = np.argsort(np.concatenate([rows for _, rows in batches]), kind="stable")
        names = [c.name for c in release.signature.outputs if c.name in answers[0].outputs] or list(answers[0].outputs)
        outputs = {name: np.concatenate([a.outputs[name] for a in answers])[order] for name in names}
        by_row = np.concatenate(
            [np.full(len(rows), a.release, dtype=object) for (_, rows), a in zip(batches, answers, strict=True)]
        )
        result = to_frame(outputs, frame.index, release.signature.outputs)
        releases = list(dict.fromkeys(by_row[order]))
        result.attrs["release"] = ", ".join(releases)
        result.attrs["trace_id"] = trace.trace_id
        if len(releases) > 1:
            result.attrs["releases"] = list(by_row[order])
        stood_in = dict.fromkeys(a.fallback for a in answers if a.fallback)
        if stood_in:
            result.attrs["fallback"] = ", ".join(stood_in)
        return result

    def _request(
        self, frame: pd.DataFrame, release: Release
    ) -> tuple[Sequence[Column], dict[str, np.ndarray[Any, Any]]]:
        """The tensors to send: the model's columns, or for a feature endpoint what of them and of the keys is there."""
        inputs = release.signature.inputs
        have = {str(c) for c in frame.columns}
        missing = [c.name for c in inputs if c.name not in have]
        if not missing or release.feature_service is None:
            picked = pick(frame, [c.name for c in inputs], whose=f"'{self.name}'")
            return inputs, tensors(picked, inputs)
        stated = {c.name: c for c in inputs}
        given = pick(frame, [str(c) for c in frame.columns], whose=f"'{self.name}'")
        columns = [stated.get(c.name, c) for c in columns_of(given)]
        return columns, tensors(given, columns)

    # what is known about the endpoint

    def _release(self) -> Release:
        """The release whose columns count: stable, else the candidate; known for a minute, or until it can be asked."""
        if self._known and time.monotonic() - self._known[1] < _KNOWN_FOR_S:
            return self._known[0]
        try:
            release = self._look_up()
        except Unavailable:
            if self._known is None:
                raise
            release = self._known[0]
        self._known = (release, time.monotonic())
        return release

    def _look_up(self) -> Release:
        found = endpoint_of(self._control, self.name)
        number = found.stable or found.candidate
        if number is None:
            why = "was retired" if found.retired else _waits_for(found)
            raise NotFound(f"'{self.name}' has no release that answers: it {why}.", f"See %deploy status {self.name}.")
        return release_of(self._control, self.name, number)

    def _forget_if_replaced(self) -> bool:
        """After a refusal: whether another release with other columns has taken over since."""
        before, self._known = self._known, None
        return before is not None and self._release().signature != before[0].signature


def _waits_for(endpoint: Endpoint) -> str:
    state = endpoint.rollout.state if endpoint.rollout else ""
    return {"waiting_approval": "waits for approval", "loading": "is still loading"}.get(state, "has none yet")


def _batches(
    groups: Sequence[tuple[str, np.ndarray[Any, Any]]], size: int
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for sticky, rows in groups:
        for start in range(0, len(rows), size):
            yield sticky, rows[start : start + size]
