"""Endpoints in the panel when much goes on: what waits, what went back, and the ways to look closer and to end it."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect
from tests.browser.lab.conftest import GROUP, HOSTILE, JOB, OUTPUT, SHOTS, WHO, open_panel
from tests.browser.lab.serving import CHURN, CREDIT_V2, LONG, REASON, crowd

pytestmark = pytest.mark.browser

CALLED = "'credit' was called in the last 7 days by loan-desk, the last one at 2026-11-20 10:00 UTC."
FORCE = "Tell them; then %deploy retire credit --force ends it all the same."


@pytest.fixture
def busy(chromium, lab, control):
    """A page of Lab whose panel shows many endpoints."""
    crowd(control)
    page = open_panel(chromium, lab)
    page.locator(".themisto-Endpoint").first.wait_for()
    yield page
    page.context.close()


def card(page, name):
    return page.get_by_role("group", name=f"endpoint {name}", exact=True)


def details(page, name):
    """Opened."""
    card(page, name).locator("summary").click()
    return card(page, name).locator(".themisto-Details")


def test_two_seconds_tell_what_waits_what_went_back_and_what_moves(busy):
    head = busy.locator(".themisto-Section summary").filter(has_text="Endpoints")
    assert [chip.inner_text() for chip in head.locator(".themisto-Chip").all()] == ["2 wait", "1 went back", "2 move"]
    assert REASON in card(busy, "churn").inner_text()
    assert "Too few answers to decide" in card(busy, "limits").inner_text()
    assert "step 2 of 3: 30 %" in card(busy, "credit.v2").inner_text()
    assert "3 gates passed" in card(busy, "credit.v2").inner_text()
    busy.locator(".themisto-mod-live").wait_for()
    busy.screenshot(path=SHOTS / "panel-serving.png")


def test_versions_share_the_card_of_their_name_and_retired_names_are_out_of_sight(busy):
    shared = busy.locator(".themisto-Card").filter(has_text="credit.v2")
    assert shared.locator(".themisto-Card-name").all_inner_texts() == ["credit", "credit.v2"]
    assert not card(busy, "pilot").is_visible()
    busy.get_by_text("1 retired").click()
    card(busy, "pilot").get_by_text("Nothing answers any more.").wait_for()


def test_gaps_of_the_prediction_log_are_a_line_and_none_are_not(busy, control):
    busy.get_by_text("1,204 lines given up, 3 writes of Envoy failed").wait_for()
    control.answer("predictions/losses", {"dropped_lines": 0, "unreadable_lines": 0, "failed_writes": 0})
    busy.get_by_role("button", name="Refresh the themisto panel").click()
    busy.get_by_text("The prediction log has gaps").wait_for(state="detached")


def test_who_may_not_know_of_losses_does_not_ask(chromium, lab, control):
    crowd(control)
    control.answer("whoami", WHO.model_copy(update={"scopes": ["infer"]}).model_dump(mode="json"))
    page = open_panel(chromium, lab)
    card(page, "churn").wait_for()
    page.get_by_role("button", name="Refresh the themisto panel").click()
    _wait(lambda: len([a for a in control.asked if a.path == "whoami"]) >= 2, page)
    assert not [asked for asked in control.asked if asked.path == "predictions/losses"]
    assert page.get_by_role("button", name="Accept fraud").count() == 0
    page.context.close()


def test_details_show_gates_fallbacks_and_callers_and_all_of_it_is_text(busy):
    opened = details(busy, "credit.v2")
    opened.get_by_text("the earlier release → the rule → the default").wait_for()
    for shown in ("auc >= champion - 0.005", "9 of 812", '"score":0.5', "each after 300 ms", f"region is {HOSTILE}"):
        assert shown in opened.inner_text()
    opened.get_by_role("button", name="Who calls credit").click()
    opened.get_by_role("cell", name="loan-desk").wait_for()
    assert opened.get_by_role("row").filter(has_text=HOSTILE).inner_text().split("\t")[:2] == [f"{HOSTILE} v2", "1,200"]
    assert busy.locator(".themisto-Sidebar img").count() == 0
    opened.scroll_into_view_if_needed()
    busy.screenshot(path=SHOTS / "panel-details.png")


def test_callers_are_looked_up_only_when_asked_for(busy, control):
    details(busy, "credit.v2").get_by_text("each after 300 ms").wait_for()
    assert not [asked for asked in control.asked if asked.path.endswith("callers")]


def test_without_a_notebook_a_cell_has_nowhere_to_go_and_the_panel_says_so(busy):
    opened = details(busy, "credit")
    opened.get_by_role("button", name="Insert a cell, Shadow").click()
    busy.get_by_role("alert").filter(has_text="No notebook is open.").get_by_text("%deploy shadow credit").wait_for()


def test_a_ready_cell_comes_below_the_active_one_and_does_not_run(chromium, lab, control):
    crowd(control)
    cells = [new_code_cell("first = 1"), new_code_cell("last = 2")]
    nbformat.write(new_notebook(metadata=OUTPUT.metadata, cells=cells), lab.home / "work.ipynb")
    page = open_panel(chromium, lab, "work.ipynb")
    notebook = page.locator(".jp-NotebookPanel")
    notebook.get_by_text("first = 1").click(timeout=30_000)
    details(page, "credit.v2").get_by_role("button", name="Insert a cell, Bench").click()
    notebook.get_by_text("%deploy bench credit.v2 --slo p99=10ms").wait_for()
    sources = [text.strip() for text in notebook.locator(".jp-CodeCell .cm-content").all_inner_texts()]
    assert sources == ["first = 1", "%deploy bench credit.v2 --slo p99=10ms", "last = 2"]
    page.keyboard.press("End")
    page.keyboard.type(" --apply")
    notebook.get_by_text("%deploy bench credit.v2 --slo p99=10ms --apply").wait_for()
    assert notebook.locator(".jp-InputPrompt").filter(has_text="*").count() == 0
    page.screenshot(path=SHOTS / "panel-ready-cell.png")
    page.context.close()


def test_a_name_that_is_offered_is_accepted_after_one_question(busy, control):
    control.answer("endpoints/fraud/offer/accept", {})
    busy.get_by_role("button", name="Accept fraud").click()
    dialog = busy.get_by_role("dialog")
    assert f"become {GROUP}'s" in dialog.inner_text()
    dialog.get_by_role("button", name="Accept").click()
    busy.wait_for_function("document.querySelectorAll('[role=dialog]').length === 0")
    _wait(lambda: [(a.method, a.path) for a in control.asked if a.path.endswith("accept")], busy)


def test_an_endpoint_that_is_called_is_retired_only_by_typing_its_name(busy, control):
    control.problem("endpoints/credit/retire", 409, "conflict", CALLED, FORCE)
    _retire(busy, "credit")
    dialog = busy.get_by_role("dialog").filter(has_text="loan-desk")
    force = dialog.get_by_role("button", name="Retire all the same")
    busy.screenshot(path=SHOTS / "panel-retire.png")
    dialog.get_by_role("textbox").fill("credit.v2")
    assert force.is_disabled()
    control.answer("endpoints/credit/retire", {})
    dialog.get_by_role("textbox").fill("credit")
    force.click()
    _wait(lambda: [a.query for a in control.asked if a.path == "endpoints/credit/retire"] == ["", "force=true"], busy)


def test_a_second_question_that_is_only_nodded_at_retires_nothing(busy, control):
    control.problem("endpoints/credit/retire", 409, "conflict", CALLED, FORCE)
    _retire(busy, "credit")
    dialog = busy.get_by_role("dialog").filter(has_text="loan-desk")
    dialog.get_by_role("button", name="Retire all the same").click()
    busy.get_by_role("alert").filter(has_text="credit was not retired.").wait_for()
    assert [a.query for a in control.asked if a.path == "endpoints/credit/retire"] == [""]


def test_a_forced_retirement_that_is_called_off_is_none(busy, control):
    control.problem("endpoints/credit/retire", 409, "conflict", CALLED, FORCE)
    _retire(busy, "credit")
    busy.get_by_role("dialog").filter(has_text="loan-desk").get_by_role("button", name="Cancel").click()
    busy.get_by_role("dialog").wait_for(state="detached")
    assert [a.query for a in control.asked if a.path == "endpoints/credit/retire"] == [""]


def test_force_is_not_offered_where_it_would_not_help(busy, control):
    control.problem("endpoints/credit/retire", 409, "conflict", "It changed at the same moment.", "Try again.")
    _retire(busy, "credit")
    busy.get_by_role("alert").filter(has_text="It changed at the same moment.").wait_for()
    assert busy.get_by_role("dialog").count() == 0


def test_details_and_what_is_in_them_are_reached_by_keyboard(busy):
    card(busy, "credit.v2").locator("summary").focus()
    busy.keyboard.press("Enter")
    card(busy, "credit.v2").get_by_text("each after 300 ms").wait_for()
    card(busy, "credit.v2").locator("summary").focus()  # Lab's launcher may have taken it while it came up
    reached = []
    for _ in range(14):
        busy.keyboard.press("Tab")
        reached.append(busy.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
    for wanted in ("Who calls credit", "Insert a cell, Log", "Insert a cell, Hand over", "Retire credit.v2"):
        assert any(label.startswith(wanted) for label in reached), (wanted, reached)


def test_long_names_and_reasons_stay_inside_their_cards(busy):
    details(busy, LONG)
    details(busy, "credit.v2").get_by_text("each after 300 ms").wait_for()
    body = busy.locator(".themisto-Body")
    assert body.evaluate("node => node.scrollWidth <= node.clientWidth")
    over = busy.locator(".themisto-Card").evaluate_all(
        "cards => cards.filter(card => card.scrollWidth > card.clientWidth).map(card => card.innerText)"
    )
    assert over == []


def test_it_can_be_read_in_the_dark(chromium, lab, control):
    crowd(control)
    settings = lab.home / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
    settings.write_text(json.dumps({"theme": "JupyterLab Dark"}))
    try:
        page = open_panel(chromium, lab)
        page.locator("body[data-jp-theme-light='false']").wait_for(state="attached")
        details(page, "credit.v2").get_by_text("each after 300 ms").wait_for()
        page.screenshot(path=SHOTS / "panel-serving-dark.png")
        worst = page.locator(".themisto-Sidebar").evaluate(_WORST_CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        page.context.close()
    finally:
        settings.unlink()


def test_it_can_be_read_in_the_light(busy):
    details(busy, "credit.v2").get_by_text("each after 300 ms").wait_for()
    worst = busy.locator(".themisto-Sidebar").evaluate(_WORST_CONTRAST)
    assert worst["ratio"] >= 4.5, worst


def test_a_step_by_hand_says_which_and_what_it_gives(busy, control):
    path = f"endpoints/credit.v2/rollouts/{JOB}/step"
    control.problem(path, 409, "conflict", "credit.v2@3 is at step 3, 100 %, by now.", "Look again.")
    busy.get_by_role("button", name="Next step of credit.v2: 100 %").click()
    dialog = busy.get_by_role("dialog")
    assert "@3 gets 100 % of the traffic instead of 30 %. It becomes stable" in dialog.inner_text()
    dialog.get_by_role("button", name="Give it 100 %").click()
    busy.get_by_role("alert").filter(has_text="is at step 3, 100 %, by now.").wait_for()
    assert [json.loads(a.body) for a in control.asked if a.path == path] == [{"to": 2}]
    assert busy.get_by_role("button", name="Next step of credit", exact=True).count() == 0


def test_a_rollout_is_paused_with_a_reason_and_resumed_without_a_question(busy, control):
    path = f"endpoints/credit.v2/rollouts/{JOB}"
    control.answer(f"{path}/pause", {})
    busy.get_by_role("button", name="Pause credit.v2").click()
    dialog = busy.get_by_role("dialog")
    assert "a breach still goes back by itself" in dialog.inner_text()
    dialog.get_by_role("textbox").fill("a look at the scores")
    dialog.get_by_role("button", name="Pause").click()
    _wait(lambda: [a for a in control.asked if a.path == f"{path}/pause"], busy)
    body = next(a.body for a in control.asked if a.path == f"{path}/pause")
    assert json.loads(body) == {"reason": "a look at the scores"}
    paused = CREDIT_V2.model_copy(
        update={
            "rollout": CREDIT_V2.rollout.model_copy(update={"manual": True}),
            "updated_at": CREDIT_V2.updated_at.replace(year=2100),
        }
    )
    control.answer(f"{path}/resume", {})
    busy.locator(".themisto-mod-live").wait_for()
    control.publish("endpoint", paused.model_dump(mode="json"))
    card(busy, "credit.v2").get_by_text("step 2 of 3: 30 %, by hand").wait_for()
    busy.get_by_role("button", name="Resume credit.v2").click()
    _wait(lambda: [a for a in control.asked if a.path == f"{path}/resume"], busy)


def test_while_one_is_on_its_way_no_other_action_is_taken(busy, control):
    names = ("Promote credit.v2@3", "Roll back credit.v2", "Next step of credit.v2: 100 %", "Pause credit.v2")
    release = control.hold(f"endpoints/credit.v2/rollouts/{JOB}/promote")
    try:
        busy.get_by_role("button", name="Promote credit.v2@3").click()
        busy.get_by_role("dialog").get_by_role("button", name="Promote").click()
        _wait(lambda: [a for a in control.asked if a.path.endswith("/promote")], busy)
        for name in names:
            expect(busy.get_by_role("button", name=name)).to_be_disabled()
    finally:
        release()
    busy.get_by_role("alert").filter(has_text="Not Found").wait_for()
    for name in names:
        expect(busy.get_by_role("button", name=name)).to_be_enabled()


def test_a_return_is_shown_as_it_happens(busy, control):
    busy.locator(".themisto-mod-live").wait_for()
    why = CHURN.rollout.model_copy(update={"endpoint": LONG, "message": "went back by itself: slow"})
    moved = CHURN.model_copy(
        update={"name": LONG, "rollout": why, "updated_at": CHURN.updated_at.replace(year=2100)},
    )
    control.publish("endpoint", moved.model_dump(mode="json"))
    card(busy, LONG).get_by_text("went back by itself: slow").wait_for(timeout=3_000)
    busy.get_by_text("2 went back").wait_for()


def _retire(page, name):
    details(page, name).get_by_role("button", name=f"Retire {name}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Retire", exact=True).click()


def _wait(condition, page, timeout_s=10.0):
    for _ in range(int(timeout_s / 0.05)):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come true in time")


# The lowest contrast of text on what is behind it, by the WCAG's formula; buttons that are disabled do not count.
_WORST_CONTRAST = """sidebar => {
  const rgba = colour => {
    const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d');
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a] = rgba(getComputedStyle(at).backgroundColor);
      if (a === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  let worst = { ratio: 21, text: '' };
  for (const node of sidebar.querySelectorAll('*')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || node.disabled || !node.checkVisibility()) continue;
    const back = behind(node);
    const [r, g, b, a] = rgba(getComputedStyle(node).color);
    const front = [r, g, b].map((v, i) => v * (a / 255) + back[i] * (1 - a / 255));
    const [light, dark] = [luminance(front), luminance(back)].sort((x, y) => y - x);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: node.textContent.slice(0, 60), class: node.className };
  }
  return worst;
}"""
