"""The builder of Triton's configuration, given any names and shapes: always what the protobuf reads back."""

from __future__ import annotations

import io
import zipfile

from google.protobuf import json_format, text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from themisto.errors import Invalid
from themisto.serving.models import Column, ServingConfig, Signature
from themisto_hub.model_server.repository import files, model_config

FUZZ = settings(deadline=None, max_examples=60)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
COLUMNS = st.builds(
    Column,
    name=NAMES,
    dtype=st.sampled_from(["BOOL", "INT32", "INT64", "FP32", "FP64", "BYTES"]),
    shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
)
SIGNATURES = st.builds(
    Signature,
    inputs=st.lists(COLUMNS, min_size=1, max_size=4).map(tuple),
    outputs=st.lists(COLUMNS, min_size=1, max_size=3).map(tuple),
)


@FUZZ
@given(signature=SIGNATURES, batch=st.integers(1, 10_000), kind=st.sampled_from(["onnx", "python"]))
def test_any_signature_is_read_back_whole(signature, batch, kind):
    config = model_config("credit--7", kind, signature, ServingConfig(max_batch=batch))
    parsed = json_format.ParseDict(config, model_config_pb2.ModelConfig())
    again = text_format.Parse(text_format.MessageToString(parsed), model_config_pb2.ModelConfig())
    assert again == parsed
    assert [i.name for i in again.input] == [c.name for c in signature.inputs]
    assert [o.name for o in again.output] == [c.name for c in signature.outputs]
    assert [list(i.dims) for i in again.input] == [list(c.shape) or [1] for c in signature.inputs]
    assert (again.name, again.max_batch_size, dict(again.parameters)) == ("credit--7", batch, {})


@FUZZ
@given(names=st.lists(st.text(min_size=1, max_size=30), max_size=5), text=st.binary(max_size=60))
def test_any_zip_is_files_of_its_folder_or_invalid(names, text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in dict.fromkeys(["function.py", *names]):
            try:
                archive.writestr(name, text)
            except (ValueError, UnicodeEncodeError, IndexError):  # IndexError: zipfile ends a name at its first NUL
                continue
        archive.writestr("signature.json", Signature(inputs=(), outputs=()).model_dump_json())
    try:
        found = files("python", buffer.getvalue())
    except Invalid:
        return
    assert all(path.startswith("1/") and ".." not in path.split("/") and "\0" not in path for path in found)


@FUZZ
@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_a_zip_or_invalid(garbage):
    try:
        files("python", garbage)
    except Invalid:
        return
    raise AssertionError("two hundred random bytes are no artifact")
