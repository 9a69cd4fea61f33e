"""A data set through one release: what is done is kept, and nothing is mixed."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.feather
import pytest

from themisto.errors import Conflict, Failed, Invalid, Unavailable
from themisto.serving import batch as module
from themisto.serving.batch import Batch
from themisto.serving.progress import Silent, Stages


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(module.Record.model_fields["part_rows"], "default", 100)
    module.Record.model_rebuild(force=True)
    yield
    monkeypatch.undo()
    module.Record.model_rebuild(force=True)


@pytest.fixture
def credit(serving, booster, numbers):
    serving.deploy("batched", booster, numbers, strategy="replace", batch="max=64")
    return serving


@pytest.fixture
def data(numbers, tmp_path):
    """450 rows in two files, of which one has several row groups."""
    folder = tmp_path / "in"
    folder.mkdir()
    table = numbers.head(450).assign(id=range(450))
    table.iloc[:270].to_parquet(folder / "a.parquet", row_group_size=60, index=False)
    table.iloc[270:].to_parquet(folder / "b.parquet", index=False)
    return folder


def run(serving, source, output, **options):
    return Batch(serving.endpoint("batched"), str(source), str(output)).run(Stages("batched", Silent()), **options)


def test_every_row_is_answered_once_in_order(credit, data, tmp_path, booster, numbers):
    done = run(credit, data, tmp_path / "out")
    assert (done.rows, done.parts, done.kept, done.release) == (450, 5, 0, "batched@1")
    found = pd.read_parquet(tmp_path / "out")
    assert found.id.tolist() == list(range(450))
    expected = booster.predict(numbers.head(450))
    assert found.label.tolist() == expected.tolist()
    assert not list((tmp_path / "out").glob(".*.new"))


@pytest.mark.parametrize("kind", ["csv", "arrow", "pattern", "file"])
def test_other_inputs(credit, data, tmp_path, numbers, kind):
    source = {"pattern": data / "*.parquet", "file": data / "a.parquet"}.get(kind, tmp_path / f"in.{kind}")
    if kind == "csv":
        numbers.head(150).to_csv(source, index=False)
    elif kind == "arrow":
        pyarrow.feather.write_feather(numbers.head(150), str(source), compression="uncompressed")
    assert run(credit, source, tmp_path / "out").rows == {"pattern": 450, "file": 270}.get(kind, 150)


def test_an_interrupted_batch_goes_on_behind_its_last_part(credit, data, tmp_path, monkeypatch, plane):
    client = credit.endpoint("batched")
    real, calls = client.predict_as, []

    def interrupted(frame, sticky):
        calls.append(len(frame))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(frame, sticky)

    monkeypatch.setattr(client, "predict_as", interrupted)
    with pytest.raises(Failed, match="Interrupted: 200 rows in 2 parts"):
        run(credit, data, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 2
    done = run(credit, data, tmp_path / "out")
    assert (done.rows, done.parts, done.kept) == (450, 5, 2)
    assert pd.read_parquet(tmp_path / "out").id.tolist() == list(range(450))
    plane.asked.clear()
    assert run(credit, data, tmp_path / "out").kept == 5
    assert plane.asked == []


def test_while_a_canary_runs_every_row_is_the_recorded_releases(credit, data, tmp_path, booster, numbers, plane, late):
    import lightgbm as lgb

    other = lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(numbers, late)
    credit.deploy("batched", other, numbers, strategy="ab", weight_pct=50)
    assert run(credit, data, tmp_path / "out").release == "batched@1"
    found = pd.read_parquet(tmp_path / "out")
    assert found.label.tolist() == booster.predict(numbers.head(450)).tolist()
    keys = {headers["themisto-key"] for _, headers, _ in plane.asked}
    assert len(keys) < 40


def test_a_batch_is_not_mixed_with_another_release(credit, data, tmp_path, numbers, late, monkeypatch):
    import lightgbm as lgb

    client = credit.endpoint("batched")
    real, calls = client.predict_as, []

    def promoted_meanwhile(frame, sticky):
        calls.append(sticky)
        if len(calls) == 2:
            other = lgb.LGBMClassifier(n_estimators=3, verbose=-1).fit(numbers, late)
            credit.deploy("batched", other, numbers, strategy="replace")
        return real(frame, sticky)

    monkeypatch.setattr(client, "predict_as", promoted_meanwhile)
    with pytest.raises(Conflict, match=r"began with batched@1; now batched@2 answers.*100 rows are done and kept"):
        run(credit, data, tmp_path / "out")
    with pytest.raises(Conflict, match="began with batched@1"):
        run(credit, data, tmp_path / "out")


def test_another_input_or_a_strange_folder_is_refused(credit, data, tmp_path, numbers):
    run(credit, data, tmp_path / "out")
    numbers.head(10).to_parquet(data / "c.parquet")
    with pytest.raises(Conflict, match="answers to another input"):
        run(credit, data, tmp_path / "out")
    with pytest.raises(Conflict, match="no batch of ours"):
        run(credit, data, data)
    (tmp_path / "out" / "_batch.json").write_text("{")
    with pytest.raises(Invalid, match="cannot be read"):
        run(credit, data, tmp_path / "out")


def test_a_gateway_that_is_away_for_a_moment_is_waited_for(credit, data, tmp_path, plane):
    run(credit, data / "a.parquet", tmp_path / "warm")
    slept = []
    plane.down.add("gateway")

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            plane.down.clear()

    assert run(credit, data, tmp_path / "out", sleep=sleep).rows == 450
    assert slept == [0.5, 1.0, 2.0]


def test_a_gateway_that_stays_away_is_told_with_what_is_kept(credit, data, tmp_path, plane, monkeypatch):
    client = credit.endpoint("batched")
    real = client.predict_as
    monkeypatch.setattr(client, "predict_as", lambda f, s: (real(f, s), plane.down.add("gateway"))[0])
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    with pytest.raises(Unavailable, match="100 rows are done and kept"):
        run(credit, data, tmp_path / "out")


@pytest.mark.parametrize(
    ("files", "source", "says"),
    [
        ({}, "in/*.parquet", "no file at"),
        ({"a.txt": b"x"}, "in/a.txt", "unknown kinds: .txt"),
        ({"a.csv": b"hour,dist,temp\n1,2,3\n", "b.arrow": b""}, "in", "several or unknown"),
        ({"a.parquet": b"nothing"}, "in/a.parquet", "cannot be read"),
        ({"a.csv": b"hour,dist\n1,2\n"}, "in/a.csv", "'temp' missing"),
        ({"a.csv": b"hour,dist,temp\n"}, "in/a.csv", "no rows"),
    ],
)
def test_inputs_that_do_not_fit_are_told(credit, tmp_path, files, source, says):
    (tmp_path / "in").mkdir()
    for name, content in files.items():
        (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(Invalid, match=says):
        run(credit, tmp_path / source, tmp_path / "out")


def test_the_folder_says_which_release(credit, data, tmp_path):
    run(credit, data, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "_batch.json").read_text())["release"] == "batched@1"
