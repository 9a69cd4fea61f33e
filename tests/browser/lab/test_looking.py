"""Looking at live traffic from the panel: the newest requests, a shadow, the effect of a split; no notebook is open."""

from urllib.parse import parse_qs, quote

import pytest
from playwright.sync_api import expect
from tests.browser.lab.conftest import HOSTILE, SHOTS, WHO, open_panel
from tests.browser.lab.serving import EFFECT, LOG, NEXT, OLDER, REFUSED, crowd
from tests.browser.lab.test_serving import _WORST_CONTRAST, _wait, card, details

pytestmark = pytest.mark.browser

NEWEST = "Newest requests of credit"


@pytest.fixture
def busy(chromium, lab, control):
    """A page of Lab whose panel shows many endpoints."""
    crowd(control)
    page = open_panel(chromium, lab)
    page.locator(".themisto-Endpoint").first.wait_for()
    yield page
    page.context.close()


def logged(page):
    """The newest requests of credit, shown."""
    details(page, "credit").get_by_role("button", name="Show the newest requests of credit").click()
    table = page.get_by_role("table", name=NEWEST)
    table.wait_for()
    return table


def questions(control):
    return [parse_qs(asked.query) for asked in control.asked if asked.path.endswith("/log")]


def wide(page, pixels):
    """Drag the sidebar to a width."""
    handle = page.locator("#jp-main-split-panel > .lm-SplitPanel-handle").first
    box, left = handle.bounding_box(), page.locator(".themisto-Sidebar").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(left["x"] + pixels, box["y"] + 300, steps=4)
    page.mouse.up()


def test_each_request_is_a_row_with_what_answered_how_fast_and_how(busy):
    table = logged(busy)
    assert table.get_by_role("row").count() == 1 + len(LOG)
    assert table.get_by_role("columnheader").all_inner_texts() == [
        "Time", "Release", "Latency", "Status", "Chosen", "Fallback", "Caller", "Request", "Why",
    ]  # fmt: skip
    cells = [[cell.inner_text() for cell in row.get_by_role("cell").all()] for row in table.get_by_role("row").all()]
    assert cells[2][1:7] == ["@7", "204 ms", "200", "@8", "earlier", "loan-desk"]
    assert cells[2][7].split("\n")[-1] == "trace 4bf92f3577b34da6a3ce929d0e0e4736"
    assert cells[2][8] == "the model server did not answer in time (UT)"
    assert cells[4][1:4] == ["none", "0.3 ms", "gRPC 14"]
    assert cells[4][8] == "unavailable, no healthy model server (UH)"
    assert cells[5][3] == "none"
    busy.get_by_role("status").get_by_text(f"{len(LOG)} requests, the newest first.").wait_for()


def test_what_callers_sent_is_text(busy):
    table = logged(busy)
    rows = table.get_by_role("row").all_inner_texts()
    assert REFUSED in rows[3]
    assert HOSTILE in rows[-1]
    assert busy.locator(".themisto-Sidebar img").count() == 0


def test_the_log_is_not_looked_at_until_asked_and_without_bodies(busy, control):
    details(busy, "credit").get_by_role("button", name="Show the newest requests of credit").wait_for()
    assert questions(control) == []
    busy.get_by_role("button", name="Show the newest requests of credit").click()
    busy.get_by_role("table", name=NEWEST).wait_for()
    assert questions(control) == [{"limit": ["20"], "bodies": ["false"]}]


def test_it_is_filtered_by_release_failures_and_fallbacks(busy, control):
    logged(busy)
    only = busy.get_by_role("combobox", name="Which requests are shown, credit")
    release = busy.get_by_role("combobox", name="Release whose requests are shown, credit")
    assert release.locator("option").all_inner_texts() == ["all releases", *(f"@{n}" for n in range(8, 0, -1))]
    control.answer("endpoints/credit/log", [LOG[2].model_dump(mode="json")])
    only.select_option("only failures")
    busy.get_by_text("One request.").wait_for()
    control.answer("endpoints/credit/log", [])
    release.select_option("@8")
    busy.get_by_text("The log holds no such request.").wait_for()
    assert busy.get_by_role("table", name=NEWEST).count() == 0
    assert questions(control)[-1] == {"limit": ["20"], "about": ["8"], "only": ["failures"], "bodies": ["false"]}


def test_older_requests_come_below_and_end_where_the_log_ends(busy, control):
    table = logged(busy)
    query = f"limit=20&after={quote(NEXT, safe='')}&bodies=false"
    control.answer(f"endpoints/credit/log?{query}", [one.model_dump(mode="json") for one in OLDER])
    busy.get_by_role("button", name="Older requests of credit").click()
    busy.get_by_text(f"{len(LOG) + len(OLDER)} requests").wait_for()
    assert table.get_by_role("row").nth(1).inner_text() == logged_first(table)
    assert questions(control)[-1]["after"] == [NEXT]
    assert busy.get_by_role("button", name="Older requests of credit").count() == 0


def logged_first(table):
    return table.get_by_role("row").filter(has_text=LOG[0].request_id).inner_text()


def test_an_empty_log_and_an_unreadable_one_are_told(busy, control):
    control.answer("endpoints/credit/log", [])
    details(busy, "credit").get_by_role("button", name="Show the newest requests of credit").click()
    busy.get_by_text("Nobody has called yet.").wait_for()
    control.problem("endpoints/credit/log", 503, "unavailable", "The prediction log cannot be read.", "Tell them.")
    busy.get_by_role("button", name="Look again at the newest requests of credit").click()
    alert = busy.get_by_role("alert").filter(has_text="The prediction log cannot be read.")
    alert.get_by_text("Tell them.").wait_for()
    crowd(control)
    busy.get_by_role("button", name="Look again at the newest requests of credit").click()
    busy.get_by_role("table", name=NEWEST).wait_for()
    expect(alert).to_have_count(0)


def test_who_may_not_look_is_not_offered_to(chromium, lab, control):
    crowd(control)
    control.answer("whoami", WHO.model_copy(update={"scopes": ["infer"]}).model_dump(mode="json"))
    page = open_panel(chromium, lab)
    opened = details(page, "credit")
    opened.get_by_text("the earlier release").wait_for()
    for name in ("Show the newest requests", "Compare the shadow", "Compare the releases"):
        assert page.get_by_role("button", name=name).count() == 0
    page.context.close()


def test_a_shadow_is_compared_without_a_notebook(busy):
    opened = details(busy, "credit")
    opened.get_by_role("button", name="Compare the shadow of credit").click()
    opened.get_by_text("98.1 % of 2,000 rows agree").wait_for()
    shown = opened.inner_text()
    for told in ("@8 beside @7", "largest difference 0.3117", "The shadow failed in 2 of them.", "4.3 ms", HOSTILE):
        assert told in shown
    assert busy.locator(".themisto-Sidebar img").count() == 0
    worst = opened.get_by_role("table").filter(has_text="Rows that differ most")
    first = worst.get_by_role("row").nth(1).get_by_role("cell").all_inner_texts()
    assert first[1:] == ["score 0.6123", "score null"]
    opened.get_by_role("button", name="Compare the shadow of credit").scroll_into_view_if_needed()
    busy.screenshot(path=SHOTS / "panel-shadow.png")


def test_an_effect_is_told_with_its_interval_and_by_the_metric_that_was_chosen(busy, control):
    opened = details(busy, "credit.v2")
    opened.get_by_role("button", name="Compare the releases of credit.v2 by latency_ms").click()
    opened.get_by_text("+2.89 (+93 %)").wait_for()
    shown = opened.inner_text()
    for told in ("@3 against @2", "+2.41 to +3.37", "5,812", "6.01", "not constant", "Welch", "the A/B cell"):
        assert told in shown
    metric = opened.get_by_role("combobox", name="Metric by which the releases of credit.v2 are compared")
    assert metric.locator("option").all_inner_texts() == ["latency (ms)", "errors (share)", "output x"]
    metric.select_option("output x")
    expect(opened.get_by_text("+2.89 (+93 %)")).to_have_count(0)
    opened.get_by_role("button", name="Compare the releases of credit.v2 by outputs.x").click()
    opened.get_by_text("+2.89 (+93 %)").wait_for()
    asked = [one.query for one in control.asked if one.path == "endpoints/credit.v2/ab"]
    assert asked == ["metric=latency_ms", "metric=outputs.x"]


def test_a_split_that_is_not_as_configured_is_an_alert(busy, control):
    uneven = EFFECT.model_copy(update={"share_pct": 50, "srm_p": 1e-9, "notes": ()})
    control.answer("endpoints/credit.v2/ab", uneven.model_dump(mode="json"))
    opened = details(busy, "credit.v2")
    opened.get_by_role("button", name="Compare the releases of credit.v2 by latency_ms").click()
    alert = busy.get_by_role("alert").filter(has_text="Not as configured")
    alert.get_by_text("Do not use this effect.").wait_for()


def test_too_little_to_compare_is_told_in_the_servers_words(busy, control):
    said = "0 values of 'latency_ms' for credit.v2@3: two are needed at least."
    control.problem("endpoints/credit.v2/ab", 404, "not-found", said, "Let callers ask first.")
    opened = details(busy, "credit.v2")
    opened.get_by_role("button", name="Compare the releases of credit.v2 by latency_ms").click()
    busy.get_by_role("alert").filter(has_text=said).wait_for()


def test_the_log_is_read_in_a_narrow_and_in_a_wide_panel(busy):
    table = logged(busy)
    for pixels, name in ((300, "narrow"), (900, "wide")):
        wide(busy, pixels)
        _wait(lambda at=pixels: abs(busy.locator(".themisto-Sidebar").bounding_box()["width"] - at) < 40, busy)
        table.scroll_into_view_if_needed()
        busy.screenshot(path=SHOTS / f"panel-log-{name}.png")
        body = busy.locator(".themisto-Body")
        assert body.evaluate("node => node.scrollWidth <= node.clientWidth"), name
        over = busy.locator(".themisto-Log *").evaluate_all(
            "all => all.filter(one => one.getBoundingClientRect().right > "
            "one.closest('.themisto-Log').getBoundingClientRect().right + 1 && !one.closest('thead'))"
            ".map(one => one.innerText)"
        )
        assert over == [], name
        assert table.get_by_role("row").count() == 1 + len(LOG), name
        assert table.get_by_role("columnheader").count() == 9, name


def test_it_looks_as_the_docs_show_it(busy, control):
    """The picture is docs/panel-log.png."""
    plain = [
        one.model_dump(mode="json") for one in LOG if one.status is not None and HOSTILE not in one.model_dump_json()
    ]
    control.answer("endpoints/credit/log", plain, x_next=NEXT)
    table = logged(busy)
    wide(busy, 820)
    _wait(lambda: busy.locator(".themisto-Sidebar").bounding_box()["width"] > 760, busy)
    table.evaluate("node => node.closest('.themisto-Card').scrollIntoView()")
    whole = busy.locator(".themisto-Sidebar").bounding_box()
    busy.screenshot(path=SHOTS / "panel-log.png", clip=whole | {"height": 700})
    assert table.get_by_role("row").count() == 1 + len(plain)


def test_it_is_all_reached_by_keyboard(busy):
    card(busy, "credit").locator("summary").focus()
    busy.keyboard.press("Enter")
    busy.get_by_role("button", name="Show the newest requests of credit").wait_for()
    card(busy, "credit").locator("summary").focus()  # Lab's launcher may have taken it while it came up
    assert _tabs(busy, 1) == ["Show the newest requests of credit"]
    busy.keyboard.press("Enter")
    busy.get_by_role("button", name="Older requests of credit").wait_for()
    assert _focused(busy) == "Look again at the newest requests of credit"
    assert _tabs(busy, 2, "Shift+Tab") == [
        "Which requests are shown, credit",
        "Release whose requests are shown, credit",
    ]
    assert _tabs(busy, 4)[2:] == ["Older requests of credit", "Compare the shadow of credit"]
    outline = busy.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def _tabs(page, times, key="Tab"):
    labels = []
    for _ in range(times):
        page.keyboard.press(key)
        labels.append(_focused(page))
    return labels


def _focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_in_both_themes(chromium, lab, control, theme):
    crowd(control)
    settings = lab.home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    if theme == "dark":
        settings.write_text('{"theme": "JupyterLab Dark"}')
    try:
        page = open_panel(chromium, lab)
        page.locator(f"body[data-jp-theme-light='{'true' if theme == 'light' else 'false'}']").wait_for(
            state="attached"
        )
        table = logged(page)
        opened = details(page, "credit.v2")
        opened.get_by_role("button", name="Compare the releases of credit.v2 by latency_ms").click()
        opened.get_by_text("+2.89 (+93 %)").wait_for()
        page.screenshot(path=SHOTS / f"panel-effect-{theme}.png")
        table.scroll_into_view_if_needed()
        page.screenshot(path=SHOTS / f"panel-log-{theme}.png")
        worst = page.locator(".themisto-Sidebar").evaluate(_WORST_CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        page.context.close()
    finally:
        settings.unlink(missing_ok=True)


def test_a_refused_action_shows_how_it_stands_now(busy, control):
    """Another person was faster."""
    moved = [one for one in control.answered("endpoints") if one["name"] != "credit.v2"]
    control.problem("endpoints/credit.v2/rollback", 409, "conflict", "Nothing to go back to.", "Deploy first.")
    busy.get_by_role("button", name="Roll back credit.v2").click()
    control.answer("endpoints", moved)
    busy.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    card(busy, "credit.v2").wait_for(state="detached")


def test_what_is_done_in_one_tab_is_seen_in_another(chromium, lab, busy, control):
    other = open_panel(chromium, lab)
    card(other, "credit.v2").get_by_text("step 2 of 3: 30 %").wait_for()
    for page in (busy, other):
        page.locator(".themisto-mod-live").wait_for()
    before = next(one for one in control.answered("endpoints") if one["name"] == "credit.v2")
    done = before["rollout"] | {"state": "done", "updated_at": "2100-01-01T00:00:00Z"}
    after = before | {"stable": 3, "candidate": None, "weight_pct": 0, "strategy": None, "rollout": done}
    after |= {"updated_at": "2100-01-01T00:00:00Z"}
    path = f"endpoints/credit.v2/rollouts/{before['rollout']['id']}/promote"
    control.answer(path, after)
    busy.get_by_role("button", name="Promote credit.v2@3").click()
    busy.get_by_role("dialog").get_by_role("button", name="Promote").click()
    _wait(lambda: any(asked.path == path for asked in control.asked), busy)
    control.publish("endpoint", after)
    for page in (busy, other):
        card(page, "credit.v2").get_by_text("100 %", exact=True).wait_for()
        assert page.get_by_role("button", name="Promote credit.v2@3").count() == 0
    other.context.close()
