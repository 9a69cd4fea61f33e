"""Going back is one change: model, serving configuration, feature service version and weights, and nobody fails."""

import json
import threading
from collections import Counter

import httpx
import pytest
from tests.integration.workbench.conftest import until

from themisto_hub.gateway.feature_table import TABLE

pytestmark = pytest.mark.timeout(170)

FEATURES = """
import pandas as pd, themisto
from sklearn.linear_model import LinearRegression
customer = themisto.Entity("customer", keys=["customer"])
def view(name, income):
    rows = pd.DataFrame({"customer": ["kim"], "at": pd.to_datetime(["2026-01-01"], utc=True), "income": [income]})
    return themisto.FeatureView(name, entity=customer, at="at", source=rows)
told, proved = view("income_told", 10.0), view("income_proved", 1000.0)
worth = themisto.FeatureService("worth", features=["income_told"])
incomes = pd.DataFrame({"income": [float(n) for n in range(50)]})
def times(factor):
    return LinearRegression().fit(incomes, incomes.income * factor)
"""
FIRST = "%%deploy worthy --sample incomes --features worth@1 --batch max=64,concurrent=512\ntimes(2)"
SECOND = (
    "%%deploy worthy --sample incomes --features worth@2 --batch max=16,concurrent=99 --steps 50,100 --manual"
    " --tolerate slow=90%\ntimes(3)"
)
RECORDS = {("worthy@1", "worth@1", 20.0), ("worthy@2", "worth@2", 3000.0)}
"""What each release answers for kim: of its own model and its own feature service, and never of the other's."""


class Callers:
    """Three callers who know a key alone and never stop: release, feature service and answer of each request."""

    def __init__(self, url, token):
        self._url = f"{url}/v2/models/worthy/infer"
        self._headers = {"authorization": f"Bearer {token}"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(3)]
        self.got, self.failed = Counter(), Counter()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join(15)

    def of(self, release):
        return sum(n for (name, _, _), n in dict(self.got).items() if name == release)

    def _call(self):
        body = {"inputs": [{"name": "customer", "shape": [1, 1], "datatype": "BYTES", "data": ["kim"]}]}
        with httpx.Client(timeout=10, trust_env=False) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post(self._url, json=body, headers=self._headers)
                except httpx.TransportError as error:
                    self.failed[repr(error)] += 1
                    continue
                if answer.status_code == 200 and "x-fallback" not in answer.headers:
                    value = round(answer.json()["outputs"][0]["data"][0], 2)
                    self.got[answer.headers["x-release"], answer.headers["x-feature-service"], value] += 1
                else:
                    self.failed[f"{answer.status_code}: {answer.text}"] += 1


def more(callers, release, count=60):
    before = callers.of(release)
    assert until(lambda: callers.of(release) > before + count), (callers.got, callers.failed)


def test_the_whole_record_returns_in_one_change_and_no_request_fails(house, say, ready):
    say(FEATURES)
    say("%features apply customer told proved worth")
    say("worth = themisto.FeatureService('worth', features=['income_proved'])\n%features apply worth")
    say("%features materialize income_told\n%features materialize income_proved")
    say(FIRST)
    token = say("from themisto.workbench import workbench; print(workbench().control.gateway_token())").splitlines()[-1]

    def record():
        """What the gateway does with the first release: its routes, its bounds, the features that it is asked with."""
        routes, clusters, lookups = (
            json.loads((house.settings.xds / n).read_text()) for n in ("rds.json", "cds.json", TABLE)
        )
        bounds = [one for one in clusters["resources"] if one["name"].startswith("worthy--1")]
        return routes, bounds, lookups["releases"]["worthy--1"]

    with Callers(house.settings.gateway_http, token) as callers:
        assert until(lambda: callers.got), callers.failed
        callers.failed.clear()  # of the moment before the route was there
        before = record()
        say(SECOND)
        more(callers, "worthy@1")
        more(callers, "worthy@2")
        half = record()
        say("%deploy step worthy")
        more(callers, "worthy@2")
        after = callers.of("worthy@1")
        more(callers, "worthy@2")
        assert callers.of("worthy@1") == after
        say("%deploy rollback worthy --reason 'odd scores'")
        more(callers, "worthy@1")
        after = callers.of("worthy@2")
        more(callers, "worthy@1")
        assert callers.of("worthy@2") == after
    assert callers.failed == {}
    assert set(callers.got) == RECORDS
    assert record() == before
    assert half[0] != before[0]
