"""A release as Triton's models: their configurations and files, whatever kind the artifact is.

Three kinds of artifact (`Artifact.kind`), each one file, stored by its SHA-256.

**onnx** — the bytes of one ONNX model (no external data).
    Inputs: one tensor a DataFrame column, named as the column, shape `[N, 1]`, of the column's
    dtype (FP32 float, FP64 double, INT64 int64, INT32 int32, BOOL bool, BYTES string); or one
    tensor of shape `[N, *Column.shape]` for models that take arrays.
    Outputs: as in the signature, `[N, *Column.shape]`; a label of rank one, `[N]`, is a
    `Column` with `shape=()`.

**python** — a zip (at most 256 MiB unpacked) with
    `function.py`       source that runs by itself and defines a callable `predict`.
    `signature.json`    `Signature.model_dump_json()`, the same signature the release carries.
    `requirements.txt`  optional: `# python 3.11`, then pins `name==version`, all that is needed. Then
                        the function runs in an environment of just these (`environments`); without,
                        it may import the standard library, numpy (1.26) and pandas (2.3): what the
                        model server's own holds (locks/triton.txt).
    any other file      beside `function.py`, found by `pathlib.Path(__file__).parent`.
    `predict(frame)` gets a `pandas.DataFrame` with one column an input, in signature order, one
    row a request row; values are what `themisto.serving.portable.values` says. It answers rows in
    the same order: an array, list or Series when the signature has one output; a DataFrame (columns
    by name), a 2-D array (columns by position) or a dict of name to array otherwise. Rows of
    several requests may come in one call, so the answer for a row must not depend on its neighbours.

**chain** — a zip with `chain.json` (`themisto.serving.chain.Plan`) and a file a part, each an artifact of
    one of the other kinds. Becomes a model a part, `credit--7.model`, and Triton's ensemble of them.

The layout is Triton's own (`config.pbtxt`, `1/model.onnx` or `1/model.py`): the same files serve on
a stock Triton with an onnxruntime backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from themisto.errors import Invalid
from themisto.serving.chain import Plan
from themisto.serving.clean import portable_files
from themisto.serving.models import Column, Kind, ServingConfig, Signature
from themisto.serving.packed import unpack

__all__ = ["TURN", "Loadable", "files", "model_config", "models", "requirements"]

TURN = "turn"
"""The resource that models with a priority share; a server has as many as cores."""

_QUEUE_SIZE = 1024
_REQUIREMENTS = "requirements.txt"
_TYPES = {
    "BOOL": "TYPE_BOOL",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "FP32": "TYPE_FP32",
    "FP64": "TYPE_FP64",
    "BYTES": "TYPE_STRING",
}


class Loadable(NamedTuple):
    """One model as Triton's load API takes it."""

    name: str
    config: dict[str, Any]
    files: dict[str, bytes]


def models(name: str, kind: Kind, artifact: bytes, signature: Signature, serving: ServingConfig) -> Iterator[Loadable]:
    """What a release becomes in Triton, in the order of loading; the last is the one that callers ask.

    Raises Invalid as `files` does.
    """
    if kind != "chain":
        yield Loadable(name, model_config(name, kind, signature, serving), files(kind, artifact))
        return
    plan, parts = Plan.read(artifact)
    for part in plan.parts:
        yield from models(f"{name}.{part.name}", part.kind, parts[part.name], part.signature, serving)
    yield Loadable(name, _ensemble(name, plan, signature, serving), {"1/ensemble": b"its parts are models"})


def requirements(kind: Kind, artifact: bytes) -> list[bytes]:
    """The environments that have to be packed before it can be loaded: their `requirements.txt`."""
    if kind == "onnx":
        return []
    if kind == "python":
        found = unpack(artifact).get(_REQUIREMENTS)
        return [] if found is None else [found]
    plan, parts = Plan.read(artifact)
    return [one for part in plan.parts for one in requirements(part.kind, parts[part.name])]


def model_config(name: str, artifact_kind: Kind, signature: Signature, serving: ServingConfig) -> dict[str, Any]:
    """Triton's `ModelConfig` for one release, as the JSON that its load API takes.

    Built as the typed protobuf message, so that a name with quotes or braces is data. Triton's own
    warm-up is not used: its zeros and empty strings are refused by encoders that know their
    categories, which fails the load. The control plane warms up with the golden requests.
    """
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(
        name=name,
        backend="onnxruntime" if artifact_kind == "onnx" else "python",
        max_batch_size=serving.max_batch,
        input=[pb.ModelInput(**_tensor(pb, c)) for c in signature.inputs],
        output=[pb.ModelOutput(**_tensor(pb, c)) for c in signature.outputs],
        instance_group=[_instances(pb, serving)],
        dynamic_batching=_batching(pb, serving) if serving.batches else None,
        response_cache=pb.ModelResponseCache(enable=True) if serving.cache else None,
    )
    answer: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return answer


def files(kind: Kind, artifact_bytes: bytes) -> dict[str, bytes]:
    """The files of one model's repository folder, by their path in it.

    Raises Invalid for a zip that is none, lacks a file, or holds paths that leave its folder.
    """
    if kind == "onnx":
        return {"1/model.onnx": artifact_bytes}
    found = unpack(artifact_bytes, "function.py", "signature.json")
    try:
        Signature.model_validate(json.loads(found["signature.json"]))
    except ValueError as error:
        raise Invalid(f"signature.json in the artifact is not a signature: {error}", "Deploy it again.") from None
    ours = {"model.py": (Path(__file__).parent / "triton" / "function.py").read_bytes(), **portable_files()}
    taken = [name for name in found if name in ours or name.startswith("portable/")]
    if taken:
        raise Invalid(f"The artifact holds a file named {taken[0]!r}.", "Deploy it again.")
    return {f"1/{name}": data for name, data in {**found, **ours}.items()}


def _ensemble(name: str, plan: Plan, signature: Signature, serving: ServingConfig) -> dict[str, Any]:
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2 as pb

    steps = [
        pb.ModelEnsembling.Step(
            model_name=f"{name}.{part.name}",
            model_version=-1,
            input_map=dict(part.reads),
            output_map={c.name: plan.tensor(part, c.name) for c in part.signature.outputs},
        )
        for part in plan.parts
    ]
    config = pb.ModelConfig(
        name=name,
        platform="ensemble",
        max_batch_size=serving.max_batch,
        input=[pb.ModelInput(**_tensor(pb, c)) for c in signature.inputs],
        output=[pb.ModelOutput(**_tensor(pb, c)) for c in signature.outputs],
        ensemble_scheduling=pb.ModelEnsembling(step=steps),
    )
    answer: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return answer


def _instances(pb: Any, serving: ServingConfig) -> Any:
    """With a priority, each instance needs one of the server's turns to run: where they are all taken, it decides."""
    group = pb.ModelInstanceGroup(count=serving.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    if serving.priority is not None:
        turn = pb.ModelRateLimiter.Resource(**{"name": TURN, "global": True, "count": 1})
        group.rate_limiter.CopyFrom(pb.ModelRateLimiter(resources=[turn], priority=serving.priority))
    return group


def _batching(pb: Any, serving: ServingConfig) -> Any:
    return pb.ModelDynamicBatching(
        max_queue_delay_microseconds=serving.queue_delay_us or 0,
        preferred_batch_size=list(serving.preferred_batches),
        # A bounded queue: overload is an error at once, not a growing wait.
        default_queue_policy=pb.ModelQueuePolicy(max_queue_size=_QUEUE_SIZE),
    )


def _tensor(pb: Any, column: Column) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": column.name,
        "data_type": pb.DataType.Value(_TYPES[column.dtype]),
        "dims": list(column.shape) or [1],
    }
    if not column.shape:  # rank one: Triton wants a dimension that the model does not have
        fields["reshape"] = pb.ModelTensorReshape(shape=[])
    return fields
