"""The panel in a real JupyterLab: what it shows, what it does, and how it takes trouble."""

import json
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect
from tests.browser.lab.conftest import CANARY, HOSTILE, JOB, OUTPUT, SHOTS, open_panel

pytestmark = pytest.mark.browser


def test_all_that_matters_is_in_sight(panel):
    panel.locator(".themisto-mod-live").wait_for()
    body = panel.locator(".themisto-Body")
    for shown in ("No isolation", "cpu-small", "data-science", "flight_delay", "30 %", "@3 stable", "2,140 requests"):
        expect(body).to_contain_text(shown)
    expect(body).to_contain_text("mortgage@2 waits for approval")
    expect(body).to_contain_text("ValueError: 812 values are missing")
    panel.screenshot(path=SHOTS / "panel.png")


def test_names_from_people_are_text(panel):
    panel.get_by_text(HOSTILE, exact=True).wait_for()
    assert panel.locator(".themisto-Sidebar img").count() == 0


def test_a_change_is_shown_as_it_happens(panel, control):
    panel.locator(".themisto-mod-live").wait_for()
    moved = CANARY.model_copy(update={"weight_pct": 60, "updated_at": CANARY.updated_at.replace(year=2100)})
    control.publish("endpoint", moved.model_dump(mode="json"))
    panel.get_by_text("60 %").wait_for(timeout=3_000)


def test_review_opens_in_a_tab_that_learns_nothing_of_this_one(panel):
    link = panel.get_by_role("link", name="Review mortgage@2 in a new tab")
    assert link.get_attribute("href") == f"http://localhost:8004/approve/{JOB}"
    assert link.get_attribute("target") == "_blank"
    assert "noopener" in link.get_attribute("rel")


def test_a_failed_job_opens_at_its_failing_cell_in_one_click(panel, lab):
    panel.get_by_role("button", name="Open the failing cell of nightly").click()
    active = panel.locator(".jp-NotebookPanel .jp-Cell.jp-mod-active")
    active.get_by_text("raise ValueError").wait_for(timeout=20_000)
    active.locator(".jp-OutputArea").wait_for()
    panel.screenshot(path=SHOTS / "panel-failed-job.png")
    saved = nbformat.read(lab.home / "jobs" / f"nightly-{JOB}.ipynb", as_version=4)
    assert saved.cells[0].source == "year = 2013"


def test_what_was_changed_in_an_opened_output_is_kept(panel, lab):
    hers = new_notebook(metadata=OUTPUT.metadata, cells=[new_code_cell("year = 1999")])
    path = lab.home / "jobs" / f"nightly-{JOB}.ipynb"
    path.parent.mkdir()
    nbformat.write(hers, path)
    panel.get_by_role("button", name="Open the failing cell of nightly").click()
    panel.locator(".jp-NotebookPanel").get_by_text("year = 1999").wait_for(timeout=20_000)
    assert nbformat.read(path, as_version=4).cells[0].source == "year = 1999"


def test_a_rollback_asks_for_the_reason_and_says_why_it_is_refused(panel, control):
    control.problem("endpoints/flight_delay/rollback", 409, "conflict", "Nothing to go back to.", "Deploy first.")
    panel.get_by_role("button", name="Roll back flight_delay").click()
    panel.get_by_role("dialog").get_by_role("textbox").fill("drift since noon")
    panel.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    alert = panel.get_by_role("alert").filter(has_text="Nothing to go back to.")
    alert.get_by_text("Deploy first.").wait_for()
    body = next(a.body for a in control.asked if a.method == "POST")
    assert json.loads(body) == {"reason": "drift since noon"}


def test_a_promotion_that_is_called_off_changes_nothing(panel, control):
    panel.get_by_role("button", name="Promote flight_delay@4").click()
    panel.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    panel.get_by_role("dialog").wait_for(state="detached")
    assert all(a.method == "GET" for a in control.asked)


def test_a_control_plane_that_goes_down_is_said_and_comes_back_by_itself(panel, control):
    panel.locator(".themisto-mod-live").wait_for()
    control.stop()
    alert = panel.get_by_role("alert").filter(has_text="The control plane cannot be reached.")
    alert.wait_for()  # one, whatever else could not be loaded
    assert panel.get_by_text("flight_delay").first.is_visible()
    control.start()
    panel.locator(".themisto-mod-live").wait_for(timeout=30_000)
    expect(panel.get_by_text("cannot be reached")).to_have_count(0)  # what was kept is asked for anew


def test_sections_that_could_not_be_loaded_say_what_to_do_and_alert_nobody(chromium, lab, control):
    control.problem("schedules", 503, "unavailable", "The control plane cannot be reached.", "It is asked again.")
    control.problem("runs", 503, "unavailable", "The control plane cannot be reached.", "It is asked again.")
    page = open_panel(chromium, lab)
    page.get_by_text("Not loaded: The control plane cannot be reached. It is asked again.").nth(1).wait_for()
    assert page.get_by_role("alert").filter(has_text="cannot be reached").count() == 0
    page.context.close()


def test_a_panel_that_nobody_sees_keeps_no_line_open(panel, control):
    panel.locator(".themisto-mod-live").wait_for()
    panel.locator("[data-id='filebrowser']").click()
    _until(lambda: control.listening == 0)
    panel.locator("[data-id='themisto-sidebar']").click()
    _until(lambda: control.listening == 1)


def test_a_section_that_cannot_be_drawn_does_not_take_the_others_with_it(chromium, lab, control):
    control.answer("schedules", [{"name": "of-another-version", "last_job": {}}])
    page = open_panel(chromium, lab)
    page.get_by_text("Schedules cannot be shown.").wait_for()
    expect(page.get_by_text("flight_delay").first).to_be_visible()
    page.context.close()


def test_it_works_by_keyboard_alone(panel):
    summary = panel.locator(".themisto-Section summary").first
    summary.focus()
    panel.keyboard.press("Enter")
    panel.get_by_text("Used this month").wait_for(state="hidden")
    panel.keyboard.press("Enter")
    panel.get_by_text("Used this month").wait_for()


def test_alone_it_says_which_setting_is_missing(chromium, start_lab):
    page = open_panel(chromium, start_lab())
    page.get_by_text("THEMISTO_URL is not set").wait_for()
    page.screenshot(path=SHOTS / "panel-alone.png")
    page.context.close()


def _until(condition, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
