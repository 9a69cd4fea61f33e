"""Which store a setting names, and how much of S3 a folder holds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from themisto.errors import MissingSetting
from themisto_hub.control.features.offline import Folder, offline_store
from themisto_hub.control.features.s3 import S3
from themisto_hub.control.features.s3_settings import S3Settings
from themisto_hub.settings import Deployment


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def test_rows_are_in_a_folder_unless_told_otherwise(tmp_path: Path) -> None:
    store = offline_store(Deployment(state=tmp_path))
    assert isinstance(store, Folder)
    assert store.folder == tmp_path / "control" / "offline"
    assert offline_store(Deployment(state=tmp_path, offline_store="file:///srv/rows")).folder == Path("/srv/rows")


def test_a_bucket_has_a_folder_before_it(tmp_path: Path) -> None:
    store = offline_store(Deployment(state=tmp_path, offline_store="s3://rows/of/views/?cache_gib=2"))
    assert isinstance(store, S3)
    assert (store.where, store.folder) == ("s3://rows/of/views", tmp_path / "control" / "offline-cache")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://AKIA:pass-word@rows/views", "holds a name or a password"),
        ("s3://pass-word@rows", "holds a name or a password"),
        ("s3://rows/views?endpoint=https://a:pass-word@minio", "an endpoint that is no address"),
        ("s3://rows/views?endpoint=minio:9000", "Write endpoint=https://host:port"),
        ("s3://rows/views?secret_key=pass-word", "Say no more than addressing, ca, cache_gib, endpoint, region"),
        ("s3:///views", "names no bucket"),
        ("s3://Rows/views", "names no bucket"),
        ("s3://rows/a//b", "names no bucket and prefix"),
        ("s3://rows/a/../b", "names no bucket and prefix"),
        ("s3://rows?cache_gib=0", "cache_gib that is no number above 0. The default is 20"),
        ("s3://rows?timeout_s=nan", "timeout_s that is no number above 0. The default is 10"),
        ("s3://rows?timeout_s=soon", "timeout_s that is no number above 0"),
        ("s3://rows?addressing=some", "It is path or virtual"),
        ("gs://pass-word@rows", "no store of rows: gs://. Write file:///path or s3://bucket/prefix"),
        ("file://host/pass-word", "no store of rows: file://"),
        ("/srv/pass-word", "no store of rows"),
    ],
)
def test_a_url_that_is_none_is_told_and_never_repeated(tmp_path: Path, url: str, says: str) -> None:
    settings = Deployment(state=tmp_path, offline_store=url)
    with pytest.raises(MissingSetting) as told:
        offline_store(settings)
    assert says in str(told.value)
    assert "pass-word" not in str(told.value) + repr(settings)


def test_the_control_plane_does_not_start_with_one(tmp_path: Path) -> None:
    environment = os.environ | {"THEMISTO_STATE": str(tmp_path), "THEMISTO_OFFLINE_STORE": "s3://k:pass-word@rows"}
    command = [sys.executable, "-m", "themisto_hub.control"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("control plane: THEMISTO_OFFLINE_STORE holds a name or a password.")
    assert "pass-word" not in done.stderr


def test_what_the_url_does_not_say_is_in_awss_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert S3Settings.from_url("s3://rows").virtual, "as AWS wants it"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://minio:9000")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/bank.pem")
    found = S3Settings.from_url("s3://rows/views")
    assert (found.region, found.endpoint, found.ca) == ("eu-west-1", "https://minio:9000", "/etc/bank.pem")
    assert not found.virtual, "as most that are not AWS want it"
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    said = S3Settings.from_url("s3://rows?region=eu-south-1&endpoint=http://127.0.0.1:9000&addressing=virtual")
    assert (said.region, said.endpoint, said.virtual) == ("eu-south-1", "http://127.0.0.1:9000", True)
    assert S3Settings.from_url("s3://rows").region == "eu-north-1"


def test_copies_that_were_not_used_for_long_make_room_and_those_in_use_stay(tmp_path: Path) -> None:
    store, now = S3(S3Settings("rows", cache_gib=2500 / 2**30), tmp_path), time.time()
    ages = {"oldest": 9000, "older": 8000, "old": 7000, "in use": 60}
    paths = {}
    for name, age in ages.items():
        path = paths[name] = tmp_path / "group" / "view" / f"{hashlib.sha256(name.encode()).hexdigest()}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (now - age, now - age))
    store.trim()
    assert [name for name in ages if paths[name].exists()] == ["old", "in use"]
    assert store.bring(paths["old"]), "whoever asks for one is using it"
    S3(S3Settings("rows", cache_gib=500 / 2**30), tmp_path).trim()
    assert [name for name in ages if paths[name].exists()] == ["old", "in use"]
