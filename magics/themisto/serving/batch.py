"""Batch: a whole data set through one release, part by part, so that what is done is done."""

from __future__ import annotations

import glob
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import PositiveInt, ValidationError

from themisto.errors import Conflict, Failed, Invalid, ThemistoError, Unavailable
from themisto.serving.client import EndpointClient
from themisto.serving.progress import Stages
from themisto.types import Model, Sha256

__all__ = ["Batch", "Done"]

PART_ROWS = 10_000
_RECORD = "_batch.json"
_TRIES_FOR_RELEASE = 200
_PATIENCE_S = 120.0
_MAX_PAUSE_S = 10.0
_KINDS: dict[str, Literal["parquet", "csv", "arrow"]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
}


class Record(Model):
    """What an output folder holds: one input through one release. It is written before the first part."""

    endpoint: str
    release: str
    input_sha256: Sha256
    part_rows: PositiveInt = PART_ROWS


class Done(Model):
    """What a batch came to."""

    endpoint: str
    release: str
    folder: str
    rows: int
    parts: int
    kept: int
    """Parts that an earlier run had done."""
    seconds: float


class Batch:
    """A data set, a folder for the answers, and how far it has come.

    The folder holds `part-000000.parquet` and so on, 10,000 rows each: the input's columns and the
    release's outputs. A part appears whole or not at all, so that after any end the same call goes on
    behind the last one.
    """

    def __init__(self, client: EndpointClient, source: str, output: str) -> None:
        self._client = client
        self._output = Path(output).expanduser()
        self._files = _files(source)
        self._sticky = ""

    def run(self, stages: Stages, *, sleep: Callable[[float], None] = time.sleep) -> Done:
        """Score what is not there yet.

        Every answer must be of the release that is written down at the start (`x-release` says who
        answered): while a rollout runs, a sticky key is looked for that leads there.

        Raises Conflict where the folder belongs to another input or release, or that release gets no
        traffic any more; Invalid for an input that does not fit; Unavailable, NotFound, Refused; Failed
        for an interrupt. All of them leave the finished parts.
        """
        began, rows, parts, kept = time.monotonic(), 0, 0, 0
        try:
            with stages.stage("batch") as stage:
                record = self._record()
                for part, table in enumerate(_parts(self._files, record.part_rows)):
                    file = self._output / f"part-{part:06d}.parquet"
                    if file.exists():
                        kept += 1
                    else:
                        _put(file, self._answered(table, record, sleep))
                    parts, rows = parts + 1, rows + table.num_rows
                    speed = rows / max(time.monotonic() - began, 1e-9)
                    stages.note(f"{record.release}: {rows:,} rows in {parts:,} parts, {speed:,.0f} rows/s")
                before = f", {kept:,} of them done before" if kept else ""
                stage.note = f"{record.release}: {rows:,} rows in {parts:,} parts{before}"
        except KeyboardInterrupt:
            raise Failed(
                f"Interrupted: {rows:,} rows in {parts:,} parts are in {self._output}.",
                "Run the same line again: it goes on from there.",
            ) from None
        except ThemistoError as error:
            if not parts:
                raise
            remedy = f"{rows:,} rows are done and kept; the same line goes on from there. {error.remedy}"
            raise type(error)(error.detail, remedy.strip()) from error
        if not rows:
            raise Invalid("The input has no rows.", "Give files with at least one.")
        return Done(
            endpoint=self._client.name,
            release=record.release,
            folder=str(self._output),
            rows=rows,
            parts=parts,
            kept=kept,
            seconds=time.monotonic() - began,
        )

    def _record(self) -> Record:
        """The folder's record; written now where there is none. Raises Conflict for another input."""
        file, digest = self._output / _RECORD, _digest(self._files)
        try:
            known = Record.model_validate_json(file.read_text())
        except FileNotFoundError:
            return self._begun(file, digest)
        except (OSError, ValidationError) as error:
            raise Invalid(f"{file} cannot be read: {error}", "Name another output folder.") from None
        if (known.endpoint, known.input_sha256) != (self._client.name, digest):
            what = "another input" if known.endpoint == self._client.name else f"'{known.endpoint}'"
            raise Conflict(f"{self._output} holds answers to {what}.", "Name another output folder.")
        return known

    def _begun(self, file: Path, digest: str) -> Record:
        if self._output.exists() and (not self._output.is_dir() or any(self._output.iterdir())):
            raise Conflict(f"{self._output} is there already and no batch of ours.", "Name an empty or a new folder.")
        record = Record(endpoint=self._client.name, release=str(self._client.stable()), input_sha256=digest)
        try:
            self._output.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".new")
            draft.write_text(record.model_dump_json(indent=1))
            draft.replace(file)
        except OSError as error:
            raise Invalid(f"{self._output} cannot be written: {error.strerror}.", "Name a folder of yours.") from None
        return record

    def _answered(self, table: Any, record: Record, sleep: Callable[[float], None]) -> pd.DataFrame:
        """The part with its answers, all of the record's release."""
        frame = table.to_pandas()
        for _ in range(_TRIES_FOR_RELEASE):
            self._sticky = self._sticky or uuid.uuid4().hex
            answers = self._patiently(frame, sleep)
            if answers.attrs["release"] == record.release:
                return _beside(frame, answers)
            self._sticky = ""
            self._require_traffic(record)
        raise Conflict(
            f"{record.release} did not answer {_TRIES_FOR_RELEASE} times in a row; {answers.attrs['release']} did.",
            "Run the same line again when it has a larger share of the traffic.",
        )

    def _patiently(self, frame: pd.DataFrame, sleep: Callable[[float], None]) -> pd.DataFrame:
        """Asked again while the gateway is away or says that it is too much, for two minutes at the most."""
        pause, until = 0.5, time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._client.predict_as(frame, self._sticky)
            except Unavailable:
                if time.monotonic() + pause > until:
                    raise
                sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)

    def _require_traffic(self, record: Record) -> None:
        live = self._client.answering()
        if record.release not in live:
            raise Conflict(
                f"This batch began with {record.release}; now {' and '.join(live) or 'nothing'} answers.",
                "Bring that release back, or begin anew in another output folder.",
            )


def _files(source: str) -> list[Path]:
    """The input's files, by name. Raises Invalid where there are none, or of several or unknown kinds."""
    path = Path(source).expanduser()
    if path.is_dir():
        found = sorted(f for f in path.rglob("*") if f.suffix.lower() in _KINDS and not f.name.startswith((".", "_")))
    else:
        found = sorted(Path(f) for f in glob.glob(str(path), recursive=True) if Path(f).is_file())  # noqa: PTH207 - may be absolute
    if not found:
        raise Invalid(f"There is no file at '{source}'.", "Name a file, a folder, or a pattern: data/*.parquet.")
    kinds = {_KINDS.get(f.suffix.lower()) for f in found}
    if None in kinds or len(kinds) > 1:
        ends = sorted({f.suffix or f.name for f in found})
        raise Invalid(
            f"'{source}' holds files of several or unknown kinds: {', '.join(ends)}.",
            "A batch reads .parquet, .csv or .arrow, one kind at a time.",
        )
    return found


def _digest(files: Sequence[Path]) -> str:
    """Names, sizes and times of change: another input, or a changed one, is another batch."""
    known = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _parts(files: Sequence[Path], size: int) -> Iterator[Any]:
    """Tables of `size` rows, the last one shorter; no more than a row group and a part are in memory."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    kind = _KINDS[files[0].suffix.lower()]
    try:
        data = ds.dataset([str(f) for f in files], format="ipc" if kind == "arrow" else kind)
        waiting: list[Any] = []
        count = 0
        for batch in data.to_batches(batch_size=size, fragment_readahead=0, batch_readahead=1):
            waiting.append(batch)
            count += batch.num_rows
            if count >= size:
                table = pa.Table.from_batches(waiting)
                while table.num_rows >= size:
                    yield table.slice(0, size)
                    table = table.slice(size)
                waiting, count = table.to_batches(), table.num_rows
        if count:
            yield pa.Table.from_batches(waiting)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"The input cannot be read: {' '.join(str(error).split())[:300]}", "Mend or leave out that file.")  # noqa: B904 - Arrow's own words are in it


def _beside(frame: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The input with the outputs beside it; an output whose name is taken becomes `outputs.NAME`."""
    taken = set(frame.columns)
    named = answers.rename(columns={name: f"outputs.{name}" for name in answers.columns if name in taken})
    return pd.concat([frame, named], axis=1)


def _put(file: Path, frame: pd.DataFrame) -> None:
    import pyarrow as pa

    draft = file.with_name(f".{file.name}.new")
    try:
        frame.to_parquet(draft, index=False)
        draft.replace(file)
    except pa.ArrowException as error:
        raise Invalid(f"The answers cannot be written: {error}", "Give each column values of one type.") from None
    except OSError as error:
        raise Unavailable(f"{file.parent} cannot be written: {error.strerror}.", "Make room there.") from None
    finally:
        draft.unlink(missing_ok=True)
