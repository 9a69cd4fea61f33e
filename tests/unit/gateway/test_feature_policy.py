"""Features that cannot be read in time: what the service says happens, and nothing else."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from themisto.errors import NotFound, Unavailable
from themisto.features.models import Column
from themisto.features.reading import Found, read_online
from themisto.features.records import ServiceColumn, ServiceSpec
from themisto_hub.gateway.feature_book import FeatureBook
from themisto_hub.gateway.feature_entities import missing_policy
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_policy import LastRows, instead
from themisto_hub.gateway.feature_reads import FeatureReads, age_s

WHY = Unavailable("too late")


def spec(on_missing: str, **fields) -> ServiceSpec:
    return ServiceSpec(
        name="delay",
        version=1,
        group="data-science",
        keys=(Column(name="origin", dtype="string"),),
        columns=(ServiceColumn(name="temp", view="weather", view_version=1, feature="temp", dtype="float64"),),
        view_keys={"weather": ("origin",)},
        ttl_s={"weather": None},
        on_missing=on_missing,
        defaults={"temp": 9.5} if on_missing == "default" else {},
        **fields,
    )


def found(*rows, age=timedelta(0)) -> Found:
    return Found(rows=[list(r) for r in rows], event_times=[datetime.now(UTC) - age] * len(rows), incomplete=())


JFK, LGA = {"origin": "JFK"}, {"origin": "LGA"}


@pytest.mark.parametrize(("policy", "rows"), [("null", [[None], [None]]), ("default", [[9.5], [9.5]])])
def test_null_and_default_need_no_store(policy, rows):
    got = instead(spec(policy), [JFK, LGA], LastRows(), WHY)
    assert (got.rows, age_s(got)) == (rows, None)
    missing_policy(spec(policy), got, [JFK, LGA])


def test_refuse_is_503():
    with pytest.raises(Unavailable, match="too late"):
        instead(spec("refuse"), [JFK], LastRows(), WHY)


def test_last_goes_on_with_what_was_read_and_says_how_old_it_is():
    service, last = spec("last"), LastRows()
    last.keep(service, [JFK, LGA], found([1.5], [2.5], age=timedelta(hours=2)))
    got = instead(service, [LGA, JFK], last, WHY)
    assert got.rows == [[2.5], [1.5]]
    assert age_s(got) == pytest.approx(7200, abs=60)
    with pytest.raises(Unavailable):
        instead(service, [JFK, {"origin": "EWR"}], last, WHY)


def test_last_forgets_the_longest_unread_first_and_other_policies_keep_nothing():
    last = LastRows(kept=2)
    for number in range(3):
        last.keep(spec("last"), [{"origin": str(number)}], found([float(number)]))
    assert last.find(spec("last"), {"origin": "0"}) is None
    assert last.find(spec("last"), {"origin": "2"})[0] == [2.0]
    last.keep(spec("refuse"), [JFK], found([1.0]))
    assert last.find(spec("refuse"), JFK) is None


class Store:
    """An online store that answers when it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.at = datetime.now(UTC)

    def read(self, table, keys):
        self.go.wait(5)
        return [(key, int(self.at.timestamp() * 1e6), 0, 1.5) if key != "XXX" else None for key in keys]

    def close(self) -> None:
        self.go.set()


@pytest.fixture
def reads(tmp_path):
    book = Watched(tmp_path / "none", FeatureBook.model_validate_json, FeatureBook(jwks={}, issuers=()))
    made = FeatureReads(Store(), book, deadline_s=0.05)
    yield made
    made.close()


async def test_read_ends_with_its_deadline_or_the_callers(reads):
    began = time.monotonic()
    with pytest.raises(Unavailable, match="within 50 ms"):
        await reads.find(spec("refuse"), [JFK])
    with pytest.raises(Unavailable, match="within 10 ms"):
        await reads.find(spec("refuse"), [JFK], within_s=0.01)
    assert time.monotonic() - began < 3


async def test_what_was_read_is_what_last_goes_on_with(reads):
    reads.store.go.set()
    reads.deadline_s = 5.0
    assert (await reads.find(spec("last"), [JFK])).rows == [[1.5]]
    assert instead(spec("last"), [JFK], reads.last, WHY).rows == [[1.5]]


def test_last_takes_a_stale_row_and_refuses_where_there_is_none():
    store = Store()
    store.go.set()
    store.at = datetime.now(UTC) - timedelta(days=3)
    stale = read_online(store, spec("last", max_age_s=60), [JFK])
    assert (stale.rows, stale.incomplete) == ([[1.5]], ())
    assert read_online(store, spec("null", max_age_s=60), [JFK]).incomplete == (0,)
    nobody = Found(rows=[[None]], event_times=[None], incomplete=(0,))
    with pytest.raises(NotFound):
        missing_policy(spec("last"), nobody, [{"origin": "XXX"}])
