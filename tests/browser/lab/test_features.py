"""The panel's feature views: whose, how fresh, who reads them, and how their values are spread."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.browser.lab.conftest import GROUP, HOSTILE, SHOTS, open_panel

from themisto.features.sketches import FeatureSketch, Sketch
from themisto_hub.control.features.overview import ViewLine

pytestmark = pytest.mark.browser
_NOW = datetime.now(UTC)
WEATHER = ViewLine(
    name="airport_weather",
    version=2,
    group=GROUP,
    owner="scientist",
    keys=("origin",),
    features=3,
    rows=26_115,
    offline_to=_NOW - timedelta(minutes=20),
    online_to=_NOW - timedelta(minutes=25),
    fresh_s=3600,
    kept="yes",
    services=("flight_features@1",),
)
LATE = ViewLine(
    name="spending",
    version=1,
    group=GROUP,
    owner="risk",
    description=HOSTILE,
    keys=("customer",),
    features=1,
    rows=12,
    kept="no: the newest is 3 d old",
    quarantined=4,
    topic="payments",
)
SKETCH = Sketch(
    view="airport_weather",
    version=2,
    sha256="0" * 64,
    rows=26_115,
    features=(
        FeatureSketch(
            name="temp", dtype="float64", distinct=170, least=11.0, greatest=100.0, bins=(2, 8, 40, 21, 9, 1)
        ),
        FeatureSketch(name="sky", dtype="string", distinct=5, nulls=2611),
        FeatureSketch(name="guest", dtype="float64", personal=True),
    ),
)


@pytest.fixture
def page(chromium, lab, control):
    control.answer("features/overview", [v.model_dump(mode="json") for v in (WEATHER, LATE)])
    control.answer(f"features/views/airport_weather/sketch?group={GROUP}", SKETCH.model_dump(mode="json"))
    opened = open_panel(chromium, lab)
    opened.get_by_label("feature view airport_weather").wait_for()
    yield opened
    opened.context.close()


def test_each_view_says_whose_it_is_how_fresh_and_who_reads_it(page):
    text = page.get_by_label("feature view airport_weather").inner_text()
    for shown in ("fresh", "version 2 by origin", "scientist of data-science", "26,115 rows", "flight_features@1"):
        assert shown in text
    text = page.get_by_label("feature view spending").inner_text()
    for shown in (
        "late",
        "from payments",
        "Read by no service yet.",
        "Later than it promises: the newest is 3 d old.",
        "nothing materialized",
        "4 rows are not as",
        HOSTILE,
    ):
        assert shown in text
    assert page.locator(".themisto-Sidebar img").count() == 0


def test_a_view_that_was_applied_is_listed_as_it_happens(page, control):
    page.locator(".themisto-mod-live").wait_for()
    new = LATE.model_copy(update={"name": "refunds"})
    control.answer("features/overview", [v.model_dump(mode="json") for v in (WEATHER, LATE, new)])
    control.publish("features", {})
    page.get_by_label("feature view refunds").wait_for(timeout=3_000)


def test_values_are_sketched_when_somebody_looks(page, control):
    assert not [one for one in control.asked if "sketch" in one.path]
    card = page.get_by_label("feature view airport_weather")
    card.get_by_text("3 features").click()
    card.get_by_text("11 to 100").wait_for()
    assert card.locator("svg rect").count() == 6
    text = card.inner_text()
    assert "about 5 values, 10 % missing" in text
    assert "personal: not shown" in text
    card.scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / "panel-features.png")


def test_a_sketch_that_cannot_be_had_says_why(page, control):
    problem = {"title": "not-found", "detail": "The view has no rows yet.", "remedy": "Apply it.", "status": 404}
    control.answer(
        f"features/views/spending/sketch?group={GROUP}", problem, status=404, kind="application/problem+json"
    )
    card = page.get_by_label("feature view spending")
    card.get_by_text("1 feature").click()
    card.get_by_text("The view has no rows yet.").wait_for()


def test_a_workbench_without_features_shows_no_such_section(chromium, lab, control):
    opened = open_panel(chromium, lab)
    opened.locator(".themisto-Card").first.wait_for()
    opened.get_by_role("heading", name="Features").wait_for(state="detached")
    opened.context.close()
