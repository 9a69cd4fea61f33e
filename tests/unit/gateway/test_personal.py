"""Personal columns leave the log as they were declared to, whatever a caller or a model has said."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from tests.fakes.access_log import raw_line

from themisto.errors import Invalid
from themisto.serving.models import Column, Signature
from themisto.serving.personal import check_personal, personal_columns
from themisto_hub.gateway.personal import Declared, Veil, decrypt, write_declared
from themisto_hub.gateway.tail import Tail

HASH, ENCRYPT = "11" * 32, "22" * 32
DECLARED = Declared(
    endpoints={"credit": {"name": "hash", "email": "drop", "income": "encrypt", "themisto-key": "hash", "who": "hash"}}
)


def veil() -> Veil:
    return Veil(SecretStr(HASH), SecretStr(ENCRYPT))


def row(endpoint: str = "credit", **fields):
    inputs = {
        "name": ["Kim", "Lee", "Kim", None],
        "email": ["a@b.c"] * 4,
        "income": [1.5, 2.0, 1.5, None],
        "age": [1, 2, 3, 4],
    }
    usual = {
        "endpoint": endpoint,
        "key": "customer-1",
        "inputs": json.dumps(inputs),
        "outputs": json.dumps({"who": ["Kim"], "y": [1]}),
    }
    return usual | fields


def test_each_column_is_covered_as_declared():
    kept = veil().over(row(), DECLARED)
    inputs, outputs = json.loads(kept["inputs"]), json.loads(kept["outputs"])
    assert set(inputs) == {"name", "income", "age"}
    assert inputs["age"] == [1, 2, 3, 4]
    assert inputs["name"][0] == inputs["name"][2] == outputs["who"][0] != inputs["name"][1]
    assert inputs["name"][3] is None
    assert inputs["income"][0] != inputs["income"][2]
    assert [decrypt(v, "income", bytes.fromhex(ENCRYPT)) for v in inputs["income"][:3]] == [1.5, 2.0, 1.5]
    assert kept["key"].startswith("hmac-sha256:")
    for secret in ("Kim", "Lee", "a@b.c", "customer-1", "1.5"):
        assert secret not in json.dumps(kept)


def test_hash_depends_on_the_key_and_cannot_be_made_without_it():
    other = Veil(SecretStr("33" * 32), SecretStr(ENCRYPT)).over(row(), DECLARED)
    assert json.loads(other["inputs"])["name"][0] != json.loads(veil().over(row(), DECLARED)["inputs"])["name"][0]


def test_another_key_or_column_opens_nothing():
    (kept, *_) = json.loads(veil().over(row(), DECLARED)["inputs"])["income"]
    for name, key in (("income", "44" * 32), ("age", ENCRYPT)):
        with pytest.raises(ValueError, match="another key or column"):
            decrypt(kept, name, bytes.fromhex(key))


def test_without_keys_nothing_personal_is_kept():
    kept = Veil(None, None).over(row(), DECLARED)
    assert json.loads(kept["inputs"]) == {"name": [None] * 4, "income": [None] * 4, "age": [1, 2, 3, 4]}
    assert kept["key"] is None


def test_key_that_repeats_a_personal_value_is_kept_as_that_is():
    ways = {"name": "hash", "email": "drop", "income": "encrypt"}
    declared = Declared(endpoints={"credit": ways})
    hashed = veil().over(row(key="Kim"), declared)
    assert hashed["key"] == json.loads(hashed["inputs"])["name"][0]
    assert veil().over(row(key="a@b.c"), declared)["key"] is None
    assert veil().over(row(key="1.5"), declared)["key"].startswith("aes-gcm:")
    assert veil().over(row(), declared)["key"] == "customer-1"
    assert veil().over(row("other", key="Kim"), declared)["key"] == "Kim"


def test_key_beside_a_body_that_was_too_large_is_kept_as_the_strictest_column():
    declared = Declared(endpoints={"credit": {"name": "hash", "income": "encrypt"}})
    assert veil().over(row(inputs=None), declared)["key"].startswith("hmac-sha256:")


def test_words_of_an_error_are_withheld_where_something_is_personal():
    said = json.dumps({"error": "cannot read 'Kim'"})
    assert json.loads(veil().over(row(outputs=said), DECLARED)["outputs"]) == {"error": "withheld"}
    assert veil().over(row("other", outputs=said), DECLARED)["outputs"] == said


def test_what_is_no_list_is_not_kept():
    assert json.loads(veil().over(row(inputs='{"name": "Kim"}', outputs=None), DECLARED)["inputs"]) == {"name": None}


def test_no_value_reaches_parquet_and_the_declaration_is_read_while_it_runs(tmp_path):
    from tests.integration.gateway.reading import read

    tail = Tail(tmp_path, veil=veil(), declared=tmp_path / "personal.json")
    body = {"inputs": [{"name": "name", "shape": [1, 1], "datatype": "BYTES", "data": ["Kim Minjun"]}]}
    line = {
        "time": str(datetime.now(UTC).timestamp()),
        "path": "/v2/models/credit/infer",
        "key": "Kim Minjun",
        "request": base64.b64encode(json.dumps(body).encode()).decode(),
    }
    write_declared(DECLARED, tmp_path)
    (tmp_path / "predictions.log").write_text(raw_line(line))
    tail.step(flush=True)
    (found,) = read(tmp_path / "predictions", "credit", 5)
    assert found["inputs"]["name"][0].startswith("hmac-sha256:")
    assert not [f for f in (tmp_path / "predictions").rglob("*.parquet") if b"Minjun" in f.read_bytes()]


def test_line_says_what_is_kept_of_which_column():
    assert personal_columns("name=hash, email=drop") == {"name": "hash", "email": "drop"}
    assert personal_columns(None) == personal_columns("") == {}
    for wrong in ("name", "name=forget", "=hash", "name=hash;email=drop"):
        with pytest.raises(Invalid, match="Write --personal"):
            personal_columns(wrong)


def test_a_typo_in_a_personal_column_is_refused():
    signature = Signature(inputs=(Column(name="name", dtype="BYTES"),), outputs=(Column(name="y", dtype="FP32"),))
    check_personal({"name": "hash", "themisto-key": "hash", "customer": "drop"}, signature, ["customer"])
    with pytest.raises(Invalid, match="no column nmae"):
        check_personal({"nmae": "hash"}, signature, [])
