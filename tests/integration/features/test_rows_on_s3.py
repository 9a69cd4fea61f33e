"""Rows on S3: what a fault leaves behind (nothing), what an empty folder costs (nothing), and what is not ours.

The contract of rows, wherever they are, is in test_pushes, test_layers and test_erasing, which run on S3 too.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from tests.fakes.s3 import S3, refusal
from tests.integration.features.conftest import Bench, wait_until

import themisto
from themisto.errors import Failed, ThemistoError, Unavailable
from themisto.features.rowfile import write_parquet
from themisto.features.service import Features
from themisto.types import utcnow
from themisto_hub.control.context import Control
from themisto_hub.control.features.s3 import S3 as Store
from themisto_hub.control.features.tables import DataRow, PushRow

PERSON = themisto.Entity("person", keys=["who"])
MILD = themisto.Expect("balance", between=(0, 100))
ROWS = pd.DataFrame(
    {"who": ["a", "b", "c"], "at": pd.to_datetime(["2024-01-01"] * 3), "balance": [1.0, 2.0, 999.0]},
)
LATER = pd.DataFrame({"who": ["a", "b"], "at": pd.to_datetime(["2024-01-02"] * 2), "balance": [3.0, 999.0]})


def apply(features: Features, rows: pd.DataFrame = ROWS, name: str = "accounts") -> None:
    view = themisto.FeatureView(name, entity=PERSON, at="at", source=rows, expect=[MILD])
    features.apply(view, themisto.FeatureService(f"of_{name}", features=[name]))


def offline(features: Features) -> list[float | None]:
    spine = pd.DataFrame({"who": ["a", "b", "c"], "at": pd.Timestamp("2024-02-01")})
    found = features.historical(spine, "of_accounts")["balance"]
    return [None if pd.isna(value) else value for value in found]


def on_record(bench: Bench, group: str) -> int:
    with bench.control.db.read() as session:
        return sum(session.query(table).filter_by(group_name=group).count() for table in (DataRow, PushRow))


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    return request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")[:40]


@pytest.fixture
def features(on_s3: Bench, group: str) -> Iterator[Features]:
    yield on_s3.features(f"of-{group}"[:40], [group])
    on_s3.s3.fault = None


def cache(bench: Bench, group: str, view: str = "accounts") -> Path:
    return bench.control.features.rows.folder(group, view)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_that_is_copied_into_the_bucket_goes_on_there(s3: S3, tmp_path: Path, free_base, group: str) -> None:
    bench = Bench(tmp_path, free_base())
    bench.start_control()
    features = bench.features("mover", [group])
    apply(features)
    features.push("accounts", LATER)
    apply(features, ROWS.assign(balance=[1.0, 2.5, 999.0]))  # and what was pushed stays above it
    assert offline(features) == [3.0, 2.5, None]
    bench.stop_control()
    folder = tmp_path / "control" / "offline"
    for name in (moved := names(folder)):  # what `aws s3 sync` does
        s3.client.upload_file(str(folder / name), "rows", f"moved/{name}")
    folder.rename(tmp_path / "away")
    bench.settings = bench.settings.model_copy(update={"offline_store": f"s3://rows/moved?endpoint={s3.url}"})
    bench.start_control()
    try:
        features = bench.features("mover-in-a-new-home", [group])
        assert offline(features) == [3.0, 2.5, None]
        assert sorted(features.quarantine("accounts")["who"]) == ["b", "c"]
        apply(features, ROWS.assign(balance=5.0))
        assert offline(features) == [3.0, 5.0, 5.0]
        after = {key.removeprefix("moved/") for key in s3.keys("rows", "moved/")}
        assert after & set(moved)
        assert {name.rpartition("/")[0] for name in after} <= {f"{group}/accounts", f"{group}/accounts/quarantine"}
    finally:
        bench.stop_control()
        bench.hub.stop()


def test_rows_that_were_not_copied_are_named(on_s3: Bench, features: Features, group: str) -> None:
    apply(features)
    for key in on_s3.s3.keys("rows", f"of/views/{group}/"):
        on_s3.s3.client.delete_object(Bucket="rows", Key=key)
    shutil.rmtree(cache(on_s3, group))
    with pytest.raises(Failed, match=r"Rows of 'accounts' .* are on record, but not in s3://rows/of/views\. Copy them"):
        offline(features)


def test_an_empty_folder_is_filled_again(on_s3: Bench, features: Features, group: str) -> None:
    apply(features)
    features.push("accounts", LATER)
    features.push("accounts", LATER.assign(at=pd.Timestamp("2024-01-03")))
    wait_until(lambda: features.show("accounts").data.quarantined_rows == 3, "the merge")
    rows = on_s3.control.features.rows
    with rows.changing(group, "accounts"):  # the merge removes what it no longer needs
        shutil.rmtree(rows.folder(group, "").parent)
    again = on_s3.features("another-home", [group])
    assert offline(again) == [3.0, 2.0, None]
    assert again.materialize("accounts").state == "done"
    assert again.get("of_accounts", who=["a", "b"])["balance"].tolist() == [3.0, 2.0]
    assert sorted(again.quarantine("accounts")["who"]) == ["b", "b", "c"]
    assert not list(on_s3.state.rglob("*.draft"))


def test_another_control_plane_sees_the_same_and_keeps_no_copy_of_who_was_erased(
    on_s3: Bench, features: Features, group: str, tmp_path: Path
) -> None:
    apply(features)
    settings = on_s3.settings.model_copy(update={"state": tmp_path, "database": on_s3.settings.database_url})
    other = Control(settings, on_s3.keys).features.rows
    copy = other.find(group, "accounts")
    assert copy.is_relative_to(tmp_path)
    apart = other.quarantine(group, "accounts", features.show("accounts").data.quarantined[0])
    features.erase("person", who="c")
    features.erase("person", who="a")
    other.tidy()
    assert not copy.exists()
    assert not apart.exists()
    assert other.find(group, "accounts") != copy


def test_a_store_that_goes_away_in_the_middle_of_a_push_leaves_nothing(
    on_s3: Bench, features: Features, group: str
) -> None:
    apply(features)
    before, had = names(cache(on_s3, group)), on_record(on_s3, group)
    puts: list[str] = []

    def second(request) -> tuple[str, str] | None:  # the rows arrive, those that are kept apart do not
        if request["REQUEST_METHOD"] == "PUT":
            puts.append(request["PATH_INFO"])
        return ("503 Slow Down", "SlowDown") if len(puts) > 1 else None

    on_s3.s3.fault = second
    with pytest.raises(Unavailable, match=r"takes no more requests now\. Nothing was changed"):
        features.push("accounts", LATER)
    on_s3.s3.fault = None
    assert (len(puts) > 1, on_record(on_s3, group)) == (True, had)
    on_s3.s3.stop()
    try:
        with pytest.raises(Unavailable, match=r"S3 at http://127\.0\.0\.1:\d+ does not answer\. Nothing was changed"):
            features.push("accounts", LATER)
    finally:
        on_s3.s3.start()
    assert on_record(on_s3, group) == had
    assert offline(features) == [1.0, 2.0, None]
    rows = on_s3.control.features.rows
    with rows.changing(group, "accounts"):
        rows.sweep(group, "accounts", [])
    stray = puts[0].rpartition("/")[2]
    assert any(key.endswith(stray) for key in on_s3.s3.keys("rows")), "it may be of a process that is under way"
    with rows.changing(group, "accounts"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_s3.control, "clock", lambda: utcnow() + timedelta(hours=2))
        rows.sweep(group, "accounts", [])
    assert names(cache(on_s3, group)) == before == names(on_s3.stored(group, "accounts"))
    assert features.push("accounts", LATER).rows == 1
    wait_until(lambda: offline(features) == [3.0, 2.0, None], "the merge")


def test_a_push_costs_one_request(
    on_s3: Bench, features: Features, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(features)
    monkeypatch.setattr(on_s3.control.features.layers, "waiting", list)  # no merge comes between
    on_s3.s3.asked.clear()
    features.push("accounts", LATER.head(1))
    assert [asked.partition(" ")[0] for asked in on_s3.s3.asked if group in asked] == ["PUT"]


def test_a_view_whose_files_are_on_their_way_keeps_no_other_waiting(on_s3: Bench, features: Features) -> None:
    apply(features)
    apply(features, name="others")
    reached, go_on = threading.Event(), threading.Event()

    def slow(request) -> None:
        if request["REQUEST_METHOD"] == "PUT" and "/accounts/" in request["PATH_INFO"]:
            reached.set()
            go_on.wait(30)  # less than the bench's timeout

    on_s3.s3.fault = slow
    pushing = threading.Thread(target=lambda: features.push("accounts", LATER.head(1)))
    pushing.start()
    assert reached.wait(10)
    features.push("others", LATER.head(1))
    assert pushing.is_alive()
    go_on.set()
    pushing.join(10)


def test_an_upload_that_is_killed_leaves_no_file_and_may_be_repeated(s3: S3, tmp_path: Path) -> None:
    script = tmp_path / "upload.py"
    script.write_text(
        "import hashlib, pathlib, sys\n"
        "from themisto_hub.control.features.s3 import S3\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "store = S3.from_url(sys.argv[1], folder)\n"
        "body = bytes(25_000_000)\n"
        "path = folder / 'g' / 'v' / f'{hashlib.sha256(body).hexdigest()}.parquet'\n"
        "path.parent.mkdir(parents=True, exist_ok=True)\n"
        "path.write_bytes(body)\n"
        "store.keep(path)\n"
        "path.unlink()\n"
        "print(store.bring(path), path.stat().st_size)\n"
    )
    command = [sys.executable, str(script), f"s3://rows/killed?endpoint={s3.url}", str(tmp_path)]
    reached, go_on = threading.Event(), threading.Event()

    def second_part(request) -> None:
        if "partNumber=2" in request["QUERY_STRING"]:
            reached.set()
            go_on.wait(60)

    s3.fault = second_part
    process = subprocess.Popen(command)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    s3.fault = None
    go_on.set()
    assert s3.keys("rows", "killed/") == []
    assert subprocess.check_output(command, text=True) == "True 25000000\n"
    assert len(s3.keys("rows", "killed/")) == 1


def test_a_damaged_file_is_told_and_not_served(on_s3: Bench, features: Features, group: str) -> None:
    apply(features)
    key = f"of/views/{group}/accounts/{features.show('accounts').data.sha256}.parquet"
    whole = on_s3.s3.client.get_object(Bucket="rows", Key=key)["Body"].read()
    on_s3.s3.client.put_object(Bucket="rows", Key=key, Body=whole[:-9] + b"otherwise")
    shutil.rmtree(cache(on_s3, group))
    for _ in range(2):
        with pytest.raises(Failed, match=rf"s3://rows/{key} is damaged: its digest differs\. Restore it"):
            offline(features)
    assert names(cache(on_s3, group)) == []
    on_s3.s3.client.put_object(Bucket="rows", Key=key, Body=whole)
    assert offline(features) == [1.0, 2.0, None]


def test_keys_beside_ours_are_left_alone(on_s3: Bench, features: Features, group: str) -> None:
    apply(features)
    others = [
        f"of/{group}.parquet",
        f"of/views-of-others/{group}/accounts/a.parquet",
        f"of/views/{group}/accounts-of-others/a.parquet",
        f"of/views/{group}/accounts.parquet",
        f"of/views/{group}/accounts/README",
    ]
    for key in others:
        on_s3.s3.client.put_object(Bucket="rows", Key=key, Body=b"theirs")
    rows = on_s3.control.features.rows
    with rows.changing(group, "accounts"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_s3.control, "clock", lambda: utcnow() + timedelta(days=900))
        rows.sweep(group, "accounts", [])
    features.erase("person", who="a")
    assert set(others) <= set(on_s3.s3.keys("rows", "of/"))
    assert offline(features) == [None, 2.0, None]


def test_an_erasure_takes_what_a_killed_process_has_left_of_her(
    on_s3: Bench, features: Features, group: str, tmp_path: Path
) -> None:
    apply(features)
    view = features.show("accounts").view
    place = f"of/views/{group}/accounts"
    hers, _ = write_parquet(view, ROWS.head(1).assign(balance=7.0), tmp_path)
    others, _ = write_parquet(view, ROWS.tail(1).assign(balance=7.0), tmp_path)
    for path in (hers, others):
        on_s3.s3.client.upload_file(str(path), "rows", f"{place}/{path.name}")
    on_s3.s3.client.put_object(Bucket="rows", Key=f"{place}/{'0' * 64}.parquet", Body=b"half of a fi")
    features.erase("person", who="a")
    left = names(on_s3.stored(group, "accounts"))
    assert hers.name not in left
    assert f"{'0' * 64}.parquet" not in left
    assert others.name in left, "a process that is under way may be about to put it on record"


def test_an_erasure_waits_for_a_store_that_does_not_answer(on_s3: Bench, features: Features, group: str) -> None:
    apply(features)
    plane = features._control
    before = set(on_s3.s3.keys("rows", f"of/views/{group}/"))
    on_s3.s3.fault = refusal("503 Slow Down", "SlowDown", of=["DELETE"])
    asked = plane.request("POST", "features/entities/person/erase", json={"keys": {"who": "a"}, "group": group}).json()

    def erasure() -> dict[str, object]:
        return plane.get(f"features/erasures/{asked['id']}")

    wait_until(lambda: "takes no more requests" in str(erasure()["message"]), "the worker's word")
    assert erasure()["state"] == "waiting"
    on_s3.s3.fault = None
    wait_until(lambda: erasure()["state"] == "done", "the erasure")
    after = set(on_s3.s3.keys("rows", f"of/views/{group}/"))
    assert len(before - after) == 1, "her rows; those kept apart are somebody else's"


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        ("403 Forbidden", "AccessDenied", "S3 refuses s3://rows/of/views to the control plane. Allow it s3:ListBucket"),
        ("403 Forbidden", "InvalidAccessKeyId", "does not know the control plane's credentials .* Renew AWS_ACCESS"),
        ("400 Bad Request", "ExpiredToken", r"credentials \(ExpiredToken\)\. Renew"),
        ("301 Moved", "PermanentRedirect", r"'rows' is in another region than us-east-1\. Say \?region=… in THEMISTO"),
        ("404 Not Found", "NoSuchBucket", "There is no bucket 'rows'. Make it, or correct THEMISTO_OFFLINE_STORE"),
    ],
)
def test_what_s3_refuses_is_told_at_the_start_and_to_whoever_asks(
    on_s3: Bench, features: Features, caplog: pytest.LogCaptureFixture, status: str, code: str, says: str
) -> None:
    on_s3.s3.fault = refusal(status, code)
    with caplog.at_level(logging.WARNING):
        on_s3.control.features.rows.check()
        with pytest.raises(Unavailable, match=says) as told:
            apply(features)
    assert told.value.status == 503
    assert features.show("accounts").data is None
    (start,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR and "offline store" in r.msg]
    with pytest.raises(Unavailable, match=says):
        raise Unavailable(start)
    assert "secret-of-the-bucket" not in caplog.text


def test_a_store_that_takes_the_request_and_never_answers_is_given_up(s3: S3, tmp_path: Path) -> None:
    store, go_on = Store.from_url(f"s3://rows/slow?endpoint={s3.url}&timeout_s=1", tmp_path), threading.Event()
    s3.fault = lambda _: go_on.wait(60) and None
    try:
        with pytest.raises(Unavailable, match=r"S3 at .* does not answer\. Nothing was changed"):
            store.check()
    finally:
        s3.fault = None
        go_on.set()


def test_a_store_that_is_well_has_nothing_to_say(on_s3: Bench, caplog: pytest.LogCaptureFixture) -> None:
    on_s3.control.features.rows.check()
    assert not caplog.records


def test_the_credentials_are_in_no_answer_and_no_log(on_s3: Bench) -> None:
    assert "secret-of-the-bucket" not in repr(on_s3.settings)
    with pytest.raises(ThemistoError) as told:
        on_s3.control.features.rows.path("nobody", "nothing", "0" * 64)
    assert "endpoint" not in str(told.value)
