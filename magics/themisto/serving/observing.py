"""Observing: pulls the prediction log page by page, and sends the labels that complete it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from themisto.errors import Failed, Invalid, NotFound
from themisto.serving.models import Endpoint, Release, Signature
from themisto.serving.personal import unreadable_keys
from themisto.serving.predictions import rows
from themisto.types import utcnow

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["MAX_REQUESTS", "Observing", "moment", "write_parquet"]

MAX_REQUESTS = 1_000_000
"""Requests in one pull, at most."""

_PAGE = 10_000
_LABELS = 50_000
_TIMEOUT_S = 60.0
_BACK = re.compile(r"^(\d{1,6})(s|m|h|d)\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str | datetime | None) -> datetime | None:
    """`2h` (ago; s, m, h, d), or a date or time in ISO form, UTC where it names no zone. Raises Invalid.

    >>> moment("2026-11-20T08:00").isoformat()
    '2026-11-20T08:00:00+00:00'
    """
    if text is None:
        return None
    if isinstance(text, datetime):
        return text.astimezone(UTC) if text.tzinfo else text.replace(tzinfo=UTC)
    back = _BACK.match(text)
    try:
        if back:
            return utcnow() - timedelta(**{_UNITS[back[2]]: int(back[1])})
        return moment(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise Invalid(f"'{text}' is no time.", "Write 30m, 2h or 7d (ago), or 2026-11-20T08:00.") from None


class Observing:
    """One endpoint's log and labels."""

    def __init__(self, control: ControlPlane, endpoint: str) -> None:
        self._control = control
        self._endpoint = endpoint
        self._signatures: dict[str, Signature | None] = {}

    def log(
        self,
        *,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        limit: int = 100,
        labels: bool = False,
        bodies: bool = True,
        pairs: bool = False,
    ) -> pd.DataFrame:
        """The newest `limit` requests, newest first, as `themisto.serving.predictions.rows` shapes them.

        pairs: of requests that a shadow answered too, both answers. Raises NotFound, Refused,
        Unavailable, Invalid for a limit below 1 or over a million.
        """
        if not 1 <= limit <= MAX_REQUESTS:
            raise Invalid(f"{limit:,} is no number of requests.", f"Ask for 1 to {MAX_REQUESTS:,}.")
        import pyarrow as pa

        pages = self._pages(limit, since=since, until=until, labels=labels, bodies=bodies, pairs=pairs)
        return rows(pa.concat_tables(pages), self._signature)

    def _pages(
        self,
        limit: int,
        *,
        since: str | datetime | None,
        until: str | datetime | None,
        labels: bool,
        bodies: bool,
        pairs: bool,
    ) -> Iterator[Any]:
        import pyarrow.parquet as pq

        first, last = moment(since), moment(until)
        params: dict[str, Any] = {"labels": labels, "bodies": bodies, "rows": "pairs" if pairs else "answers"}
        params |= {"since": first.isoformat()} if first else {}
        params |= {"until": last.isoformat()} if last else {}
        while True:
            path = f"endpoints/{self._endpoint}/predictions"
            params["limit"] = min(limit, _PAGE)
            answer = self._control.request("GET", path, params=params, timeout_s=_TIMEOUT_S)
            page = pq.read_table(io.BytesIO(answer.content))
            yield page
            limit -= page.num_rows
            after = answer.headers.get("x-next")
            if not after or limit <= 0:
                return
            params["after"] = after

    def _signature(self, title: str) -> Signature | None:
        """Of `credit@7`; None for what is no release that can be asked about."""
        if title not in self._signatures:
            number = title.rpartition("@")[2]
            self._signatures[title] = None
            if number.isdigit():
                try:
                    answer = self._control.get(f"endpoints/{self._endpoint}/releases/{number}")
                    self._signatures[title] = Release.model_validate(answer).signature
                except NotFound:
                    pass
        return self._signatures[title]

    def _personal(self) -> set[str]:
        """Columns that the releases which answer now declare personal."""
        found = Endpoint.model_validate(self._control.get(f"endpoints/{self._endpoint}"))
        numbers = [n for n in (found.stable, found.candidate) if n is not None]
        answers = (self._control.get(f"endpoints/{self._endpoint}/releases/{n}") for n in numbers)
        return {name for answer in answers for name in Release.model_validate(answer).personal}

    def label(self, frame: pd.DataFrame, *, on: str = "request_id", label: str = "label") -> dict[str, int]:
        """Send what turned out to be true; `{"labels", "new", "changed"}` counts. Sent again, nothing changes.

        frame: a column named as `on`, a column named as `label` (number, truth value or text), and where
            wanted `row` (which row of the request; default 0) and `known_at` (time; default now).
        on: `request_id`; or a key column, as `predict(df, key=…)` named it: a key's label is for all requests
            under that key up to `known_at`.

        Raises Invalid, Refused, NotFound, Conflict (numbers where the labels are texts, a key that the log keeps
        unreadable), Unavailable; Failed for an interrupt, saying how many labels are stored.
        """
        table = _label_frame(frame, on, label)
        if on != "request_id" and on in self._personal():
            raise unreadable_keys(self._endpoint, "Post the labels by request_id, from %deploy log.")
        total = {"labels": 0, "new": 0, "changed": 0}
        about = "request_id" if on == "request_id" else "key"
        for start in range(0, len(table), _LABELS):
            file = io.BytesIO()
            _written(table.iloc[start : start + _LABELS], file, label)
            try:
                answer = self._control.request(
                    "POST",
                    f"endpoints/{self._endpoint}/labels",
                    params={"on": about},
                    content=file.getvalue(),
                    timeout_s=_TIMEOUT_S,
                ).json()
            except KeyboardInterrupt:
                raise Failed(
                    f"Interrupted after {total['labels']:,} of {len(table):,} labels.",
                    "Send the same frame again: what is there already is not stored twice.",
                ) from None
            total = {name: total[name] + int(answer[name]) for name in total}
        return total


def _label_frame(frame: Any, on: str, label: str) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame):
        raise Invalid(f"Labels are a DataFrame, not a {type(frame).__name__}.", f"Give one with {on} and {label}.")
    if frame.empty:
        raise Invalid("The DataFrame of labels has no rows.", "Give at least one.")
    for name in (on, label):
        if name not in frame.columns:
            raise Invalid(
                f"There is no column '{name}' in the labels.", f"Columns: {', '.join(map(str, frame.columns))}."
            )
    table = pd.DataFrame({"id": frame[on].astype(str), "label": frame[label]})
    if frame[on].isna().any():
        raise Invalid(f"'{on}' is missing in some rows.", f"Leave them out: df.dropna(subset=['{on}']).")
    if "row" in frame.columns:
        table["row"] = frame["row"].astype("int64")
    if "known_at" in frame.columns:
        table["known_at"] = pd.to_datetime(frame["known_at"], utc=True)
    return table


def write_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """The frame as one Parquet file, there whole or not at all. Raises Invalid where it cannot be written."""
    target = Path(path).expanduser()
    draft = target.with_name(f".{target.name}.new")
    try:
        _written(frame, draft, "")
        draft.replace(target)
    except OSError as error:
        raise Invalid(f"{target} cannot be written: {error.strerror}.", "Name a file in a folder of yours.") from None
    finally:
        draft.unlink(missing_ok=True)


def _written(frame: pd.DataFrame, to: Any, column: str) -> None:
    import pyarrow as pa

    try:
        frame.to_parquet(to, index=False)
    except pa.ArrowException as error:
        what = f"'{column}' mixes types" if column else "A column mixes types"
        raise Invalid(f"{what}: {' '.join(str(error).split())[:200]}", "Give each column values of one type.") from None
