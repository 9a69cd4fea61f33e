"""Releases as Triton's models: configuration by typed messages, artifacts that stay in their folder."""

from __future__ import annotations

import io
import zipfile

import pytest

from themisto.errors import Invalid
from themisto.serving.chain import Part, Plan
from themisto.serving.models import Column, ServingConfig, Signature
from themisto_hub.model_server import repository

SIGNATURE = Signature(
    inputs=(Column(name="age", dtype="INT64"), Column(name="country", dtype="BYTES")),
    outputs=(Column(name="label", dtype="INT64", shape=()), Column(name="probabilities", dtype="FP32", shape=(2,))),
)


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


GOOD = {"function.py": "def predict(frame): return frame.age", "signature.json": SIGNATURE.model_dump_json()}


def test_configuration_is_triton_s_own_message():
    serving = ServingConfig(max_batch=32, queue_delay_us=250, instances=2)
    assert repository.model_config("credit--7", "onnx", SIGNATURE, serving) == {
        "name": "credit--7",
        "backend": "onnxruntime",
        "max_batch_size": 32,
        "input": [
            {"name": "age", "data_type": "TYPE_INT64", "dims": ["1"]},
            {"name": "country", "data_type": "TYPE_STRING", "dims": ["1"]},
        ],
        "output": [
            {"name": "label", "data_type": "TYPE_INT64", "dims": ["1"], "reshape": {}},
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["2"]},
        ],
        "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
        "dynamic_batching": {
            "max_queue_delay_microseconds": "250",
            "default_queue_policy": {"max_queue_size": 1024},
        },
    }


def test_preferred_sizes_cache_and_priority_are_triton_s_own_fields():
    serving = ServingConfig(max_batch=32, preferred_batches=(8, 16), cache=True, priority=2)
    config = repository.model_config("credit--7", "onnx", SIGNATURE, serving)
    assert config["dynamic_batching"]["preferred_batch_size"] == [8, 16]
    assert config["response_cache"] == {"enable": True}
    assert config["instance_group"] == [
        {
            "count": 1,
            "kind": "KIND_CPU",
            "rate_limiter": {"resources": [{"name": "turn", "global": True, "count": 1}], "priority": 2},
        }
    ]


def test_names_with_quotes_and_braces_are_data():
    name = 'a"} ] parameters { key: "EXECUTION_ENV_PATH"'
    signature = Signature(inputs=(Column(name=name, dtype="FP32"),), outputs=(Column(name="y", dtype="FP32"),))
    config = repository.model_config("credit--7", "onnx", signature, ServingConfig())
    assert config["input"][0]["name"] == name
    assert "parameters" not in config


def test_onnx_is_one_file():
    assert repository.files("onnx", b"model") == {"1/model.onnx": b"model"}


def test_function_brings_its_files_and_gets_our_model_py():
    files = repository.files("python", zipped(**GOOD, **{"table.csv": "a"}))
    around = {f"1/portable/{name}.py" for name in ("__init__", "answering", "apart", "values")}
    assert set(files) == {"1/model.py", "1/function.py", "1/signature.json", "1/table.csv"} | around
    assert b"class TritonPythonModel" in files["1/model.py"]


@pytest.mark.parametrize("name", ["../x.py", "/etc/passwd", "a/../../x", "model.py", "portable/values.py", "a\\b"])
def test_paths_that_leave_the_folder_are_refused(name):
    with pytest.raises(Invalid, match="holds a file named"):
        repository.files("python", zipped(**GOOD, **{name: ""}))


@pytest.mark.parametrize(
    ("artifact", "reason"),
    [
        (b"no zip", "no readable zip"),
        (zipped(**{"signature.json": "{}"}), r"no function\.py"),
        (zipped(**{"function.py": ""}), r"no signature\.json"),
        (zipped(**GOOD | {"signature.json": "[]"}), "is not a signature"),
        (zipped(**GOOD, **{f"f{i}": "" for i in range(300)}), "200 files"),
    ],
)
def test_artifact_that_is_none_is_refused(artifact, reason):
    with pytest.raises(Invalid, match=reason):
        repository.files("python", artifact)


def test_zip_that_unpacks_to_too_much_is_refused():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as big:
        for _ in range(257):
            big.write(b"\0" * 2**20)
    with pytest.raises(Invalid, match="256 MiB"):
        repository.files("python", packed.getvalue())


def test_a_chain_is_a_model_a_part_and_an_ensemble_that_joins_them():
    given = Signature(inputs=(Column(name="age", dtype="INT64"),), outputs=(Column(name="years", dtype="INT64"),))
    scored = Signature(
        inputs=(Column(name="years", dtype="INT64"), Column(name="country", dtype="BYTES")),
        outputs=(Column(name="score", dtype="FP32"),),
    )
    function = zipped(**{"function.py": "def predict(df): return df.age", "signature.json": given.model_dump_json()})
    plan = Plan(
        parts=(
            Part(name="pre", kind="python", signature=given, reads={"age": "age"}),
            Part(name="model", kind="onnx", signature=scored, reads={"years": "pre:years", "country": "country"}),
        )
    )
    whole = Signature(inputs=SIGNATURE.inputs, outputs=scored.outputs)
    artifact = plan.packed({"pre": function, "model": b"graph"})
    pre, model, chain = repository.models("credit--7", "chain", artifact, whole, ServingConfig(max_batch=8))
    assert [one.name for one in (pre, model, chain)] == ["credit--7.pre", "credit--7.model", "credit--7"]
    assert model.files == {"1/model.onnx": b"graph"}
    assert (pre.config["backend"], model.config["backend"]) == ("python", "onnxruntime")
    assert (chain.config["platform"], chain.config["max_batch_size"]) == ("ensemble", 8)
    first, second = chain.config["ensemble_scheduling"]["step"]
    assert (first["input_map"], first["output_map"]) == ({"age": "age"}, {"years": "pre:years"})
    assert second["input_map"] == {"years": "pre:years", "country": "country"}
    assert second["output_map"] == {"score": "score"}


@pytest.mark.parametrize(
    "broken", [b"no zip", zipped(**{"chain.json": "[]"}), zipped(**{"chain.json": '{"parts": []}'})]
)
def test_a_chain_that_is_none_is_refused(broken):
    with pytest.raises(Invalid, match=r"no chain|no readable zip|three different parts"):
        list(repository.models("credit--7", "chain", broken, SIGNATURE, ServingConfig()))


def test_requirements_are_those_of_all_parts():
    pins = "# python 3.11\nsix==1.17.0\n"
    packed = zipped(**GOOD, **{"requirements.txt": pins})
    plan = Plan(parts=(Part(name="model", kind="python", signature=SIGNATURE, reads={}),))
    assert repository.requirements("python", packed) == [pins.encode()]
    assert repository.requirements("chain", plan.packed({"model": packed})) == [pins.encode()]
    assert repository.requirements("python", zipped(**GOOD)) == repository.requirements("onnx", b"graph") == []
