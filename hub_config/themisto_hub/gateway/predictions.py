"""Predictions: one line of Envoy's access log as one row, and the Parquet files the rows live in."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from themisto.errors import ThemistoError
from themisto.serving.losses import LogLosses
from themisto_hub.gateway.feature_entities import unpack
from themisto_hub.gateway.messages import SERVICE

__all__ = ["ADDED", "compact", "hour_folder", "losses", "made_of", "prediction", "write_losses", "write_parquet"]

ADDED = ("chosen", "shadow", "fallback", "feature_age_s", "trace_id")
"""Columns that Parquet files of earlier versions lack."""

_HTTP = re.compile(r"^/v2/models/([^/?]+)(?:/versions/[^/?]+)?/infer(?:\?|$)")
_GRPC = f"{SERVICE}/ModelInfer"
_FRAME = 5  # a gRPC message is preceded by its compression flag and length
_LOSSES = "losses.json"
_PARTS = b"themisto:parts"


def prediction(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of an inference, answered or refused; None for other requests.

    `inputs` and `outputs` are JSON: name to values, flat and row by row; None for a body of 64 KiB or
    more or one that cannot be read. NaN is null. `status` is HTTP's, for gRPC the call's own code
    (0 is OK); `flags` are Envoy's response flags. `release` is what answered, `chosen` what the shares
    chose: they differ where `fallback` says so (earlier, rule or default). `shadow` marks the answer of
    a release that got a copy: the caller's own answer is the row of the same `request_id`.
    """
    path = str(line.get("path") or "")
    http = _HTTP.match(path)
    if not http and path != _GRPC:
        return None
    grpc = http is None
    request, answer = _bytes(line.get("request")), _bytes(line.get("response"))
    status = line.get("grpc_status") if grpc else line.get("status")
    return {
        "time": datetime.fromtimestamp(float(line["time"]), UTC),
        "request_id": line.get("request_id"),
        "caller": line.get("caller"),
        "endpoint": http[1] if http else line.get("endpoint"),
        "release": line.get("release") or (_release(line.get("cluster")) if line.get("shadow") == "1" else None),
        "chosen": _release(line.get("cluster")),
        "shadow": line.get("shadow") == "1",
        "fallback": line.get("fallback"),
        "key": line.get("key"),
        "entity": line.get("entity") == "1",
        "protocol": "grpc" if grpc else "http",
        "path": path,
        "status": _number(status),
        "latency_ms": float(line.get("latency_ms") or 0),
        "flags": line.get("flags"),
        "feature_age_s": _seconds(line.get("feature_age_s")),
        "trace_id": line.get("trace_id"),
        "inputs": _columns(_grpc_request if grpc else _http_body, request, line.get("header_length"), "inputs"),
        "outputs": _columns(_grpc_answer if grpc else _http_body, answer, line.get("answer_header_length"), "outputs"),
    }


def hour_folder(moment: datetime) -> str:
    """Folder of the rows of one hour, by UTC: `2026-11-21T09`."""
    return moment.strftime("%Y-%m-%dT%H")


def write_parquet(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a file of that name to each hour's folder; one that is there is replaced. Raises OSError."""
    import pyarrow as pa

    by_hour: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_hour.setdefault(hour_folder(row["time"]), []).append(row)
    for hour, its_rows in by_hour.items():
        _put(folder / hour / f"{name}.parquet", pa.Table.from_pylist(its_rows, schema=_schema()))


def compact(folder: Path) -> None:
    """Make one file, `hour.parquet`, of all files of an hour that is over. Raises OSError.

    The file names the parts it is made of: cut short between the two steps, nothing is counted twice.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = folder / "hour.parquet"
    known = made_of(whole) if whole.exists() else []
    parts = [p for p in sorted(folder.glob("*.parquet")) if p != whole]
    new = [p for p in parts if p.name not in known]
    if new:
        tables = [pq.read_table(p, schema=_schema()) for p in ([whole] if whole.exists() else []) + new]
        table = pa.concat_tables(tables).sort_by("time")
        names = json.dumps(known + [p.name for p in new])
        _put(whole, table.replace_schema_metadata({_PARTS: names.encode()}))
    for part in parts:
        part.unlink()


def losses(folder: Path) -> LogLosses:
    """What the log's writer has counted; nothing where there is no file."""
    try:
        return LogLosses.model_validate_json((folder / _LOSSES).read_text())
    except (OSError, ValueError):
        return LogLosses()


def write_losses(folder: Path, counted: LogLosses) -> None:
    """Put the counts beside the hours, for whoever may read these. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{_LOSSES}"
    draft.write_text(counted.model_dump_json())
    draft.replace(folder / _LOSSES)


def made_of(whole: Path) -> list[str]:
    """Names of the parts that an hour's one file was made of. Raises OSError."""
    import pyarrow.parquet as pq

    names: list[str] = json.loads((pq.read_schema(whole).metadata or {}).get(_PARTS, b"[]"))
    return names


def _put(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    pq.write_table(table, draft, compression="zstd")
    draft.replace(path)


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    fields: dict[str, pa.DataType] = {
        "time": pa.timestamp("us", tz="UTC"),
        **dict.fromkeys(("request_id", "caller", "endpoint", "release", "key"), text),
        "entity": pa.bool_(),
        "protocol": text,
        "path": text,
        "status": pa.int32(),
        "latency_ms": pa.float64(),
        **dict.fromkeys(("flags", "inputs", "outputs"), text),
        # Added later: files of before are read without them.
        "shadow": pa.bool_(),
        **dict.fromkeys(("fallback", "chosen", "trace_id"), text),
        "feature_age_s": pa.float64(),
    }
    return pa.schema(fields)


def _bytes(value: object) -> bytes:
    return base64.b64decode(value) if isinstance(value, str) else b""


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else None


def _seconds(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None


def _release(cluster: object) -> str | None:
    """The release behind a cluster, as people write it: `credit@7` of `credit--7.http`."""
    name, sign, number = str(cluster).partition(".")[0].rpartition("--")
    return f"{name}@{number}" if sign else None


def _columns(read: Any, body: bytes, header_length: object, side: str) -> str | None:
    if not body:
        return None
    try:
        columns = read(body, _number(header_length), side)
        return json.dumps(_plain(columns), ensure_ascii=False)
    except (ThemistoError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None  # a caller may send anything; the line is kept


def _http_body(body: bytes, header_length: int | None, side: str) -> dict[str, Any]:
    head = json.loads(body[:header_length] if header_length else body)
    if "error" in head:
        return {"error": str(head["error"])}
    columns, at = {}, header_length or len(body)
    for tensor in head[side]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        columns[tensor["name"]] = (
            unpack(tensor["datatype"], body[at : at + size]) if size is not None else _flat(tensor.get("data", []))
        )
        at += size or 0
    return columns


def _grpc_request(body: bytes, _: int | None, side: str) -> dict[str, Any]:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    message = _parsed(ModelInferRequest, body)
    return _grpc_tensors(message.inputs, message.raw_input_contents)


def _grpc_answer(body: bytes, _: int | None, side: str) -> dict[str, Any]:
    from tritonclient.grpc.service_pb2 import ModelInferResponse

    message = _parsed(ModelInferResponse, body)
    return _grpc_tensors(message.outputs, message.raw_output_contents)


def _parsed(kind: Any, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(body[_FRAME:])
    except DecodeError as error:
        raise ValueError(str(error)) from None


def _grpc_tensors(tensors: Iterable[Any], raws: Sequence[bytes]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for index, tensor in enumerate(tensors):
        if raws:
            columns[tensor.name] = unpack(tensor.datatype, raws[index])
        else:
            filled = tensor.contents.ListFields()
            columns[tensor.name] = [v.decode() if isinstance(v, bytes) else v for v in filled[0][1]] if filled else []
    return columns


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [value for row in data for value in row]
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, str):  # JSON can say half a surrogate pair; Parquet and UTF-8 cannot
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
