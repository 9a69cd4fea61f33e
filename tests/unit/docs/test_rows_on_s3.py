"""docs/feature-offline.md, "Rows on S3": what it says of URLs, permissions and lifecycles is what the code has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from themisto.errors import MissingSetting
from themisto_hub.control.features import s3
from themisto_hub.control.features.s3_settings import S3Settings

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "feature-offline.md").read_text().partition("## Rows on S3")[2]
POLICY, LIFECYCLE = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def test_its_urls_are_taken() -> None:
    first, second, *rest = [S3Settings.from_url(url) for url in re.findall(r"STORE=(s3://\S+)", TEXT)]
    assert (first.bucket, first.prefix, first.region) == ("bank-features", "themisto", "eu-central-2")
    assert (second.endpoint, second.ca) == ("https://minio.bank.example:9000", "/etc/ssl/bank.pem")
    assert (second.cache_gib, second.virtual) == (100, False)
    assert rest == [first]


def test_its_table_is_what_a_url_may_say() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| .* \| (.+) \|$", TEXT, re.MULTILINE))
    with pytest.raises(MissingSetting) as refused:
        S3Settings.from_url("s3://rows?other=1")
    assert sorted(told) == re.findall(r"\w+", refused.value.remedy.removeprefix("Say no more than "))
    plain = S3Settings.from_url("s3://rows")
    assert (plain.timeout_s, plain.cache_gib) == (float(told["timeout_s"]), float(told["cache_gib"]))
    assert plain.virtual
    assert not S3Settings.from_url("s3://rows?endpoint=https://minio").virtual


def test_its_role_may_do_what_the_refusal_asks_for() -> None:
    allowed = [action for one in POLICY["Statement"] for action in [one["Action"]] for action in _list(action)]
    (asked,) = [remedy for _, detail, remedy in s3._SAID if "refuses" in detail]
    assert {action.removeprefix("s3:") for action in allowed} <= set(re.findall(r"\w+", asked))
    assert LIFECYCLE["Rules"][0]["Filter"]["Prefix"] == "themisto/"


def test_its_sizes_are_those_of_the_code() -> None:
    assert f"A push of up to {s3._SMALL // 2**20} MiB is one request" in TEXT
    assert (s3._IN_USE_S, "nobody asked for within the hour" in TEXT) == (3600, True)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
