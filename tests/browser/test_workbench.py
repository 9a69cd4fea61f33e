"""What a person does in a browser, in headless Chromium: log in, choose a profile, Lab, panel, review, approve.

Screenshots are kept in build/screenshots.
"""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

SHOTS = Path("build/screenshots")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

DATA = """
import lightgbm as lgb, mlflow, numpy as np, pandas as pd, themisto
rng = np.random.default_rng(7)
X = pd.DataFrame({"income": rng.normal(size=400), "debt": rng.normal(size=400)})
y = (X.income - X.debt + rng.normal(scale=0.3, size=400) > 0).astype(int)
"""
TRACK = """%%track -e mortgages --data X
model = lgb.LGBMClassifier(n_estimators={trees}, verbose=-1).fit(X, y)
mlflow.log_metric("accuracy", model.score(X, y))
"""
DEPLOY = """%%deploy mortgages --sample X --tier prod{how}
model  # {trees} trees
"""
ANSWERS = """
import time
for _ in range(100):
    try:
        release = themisto.endpoint("mortgages").predict(X.head(3)).attrs["release"]
    except themisto.errors.ThemistoError:
        release = None
    if release == "mortgages@{number}":
        break
    time.sleep(0.3)
print(release)
"""


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "Chromium is needed: apt-get install chromium"
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=found, args=[*flags, "--disable-sync", "--no-first-run"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A window of its own; every page that a test opened is closed with it."""
    context = chromium.new_context(viewport={"width": 1500, "height": 950})
    context.set_default_timeout(30_000)
    page = context.new_page()
    yield page
    shoot(page, "last")
    context.close()


def tell(kernel, source):
    text, error = kernel(source)
    assert error is None, error
    return text.strip()


@pytest.fixture(scope="module")
def waiting(kernel, people):
    """mortgages@1 is stable in prod; @2, trained longer, waits for its approval."""
    tell(kernel, DATA)
    tell(kernel, TRACK.format(trees=5))
    tell(kernel, DEPLOY.format(how="", trees=5))
    people["reviewer"].review("mortgages", approve=True)
    assert tell(kernel, ANSWERS.format(number=1)) == "mortgages@1"
    tell(kernel, TRACK.format(trees=40))
    tell(kernel, DEPLOY.format(how=" --replace", trees=40))


@pytest.fixture
def stopped(people):
    """The colleague's server is stopped afterwards."""
    yield
    people["colleague"].log_in()
    people["colleague"].stop_if_running()


def log_in(page, house, name):
    page.wait_for_selector("input[name=password]")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", house.passwords[name])
    page.click("button[type=submit]")


def enter(page, house, name):
    page.goto(house.settings.public)
    page.get_by_role("button", name="Log in").click()
    log_in(page, house, name)
    page.wait_for_url(re.compile("/(hub/(home|spawn)|user)"))


def open_panel(page):
    page.wait_for_selector(".jp-LauncherCard, .jp-NotebookPanel", timeout=90_000)
    page.locator("[data-id='themisto-sidebar']").click()
    page.locator(".themisto-mod-live").wait_for()
    return page.locator(".themisto-Sidebar")


def shoot(page, name, **options):
    page.screenshot(path=SHOTS / f"{name}.png", animations="disabled", **options)


def test_a_wrong_password_is_said_on_the_form(house, page):
    page.goto(house.settings.public)
    shoot(page, "01-welcome")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("input[name=password]")
    shoot(page, "02-login")
    page.fill("input[name=login]", "colleague")
    page.fill("input[name=password]", "not hers")
    page.click("button[type=submit]")
    page.get_by_role("alert").wait_for()
    shoot(page, "03-wrong-password")
    assert page.input_value("input[name=login]") == "colleague"


def test_a_person_logs_in_chooses_a_profile_and_sees_the_panel(house, waiting, page, stopped):
    enter(page, house, "colleague")
    page.goto(f"{house.settings.public}/hub/home")
    shoot(page, "04-home")
    page.goto(f"{house.settings.public}/hub/spawn")
    page.get_by_text("Small", exact=True).wait_for()
    shoot(page, "05-profiles")
    assert page.locator("input[name=profile][value=gpu-full]").count() == 0
    page.get_by_text("Small", exact=True).click()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Your server is starting").wait_for()
    shoot(page, "06-starting")
    panel = open_panel(page)
    expect(panel).to_contain_text("mortgages@2 waits for approval")
    expect(panel).to_contain_text("cpu-small")
    expect(panel).not_to_contain_text("Loading", timeout=30_000)
    shoot(page, "07-lab")
    assert page.get_by_text("Would you like to").count() == 0, "Lab asks whether it may fetch news"


def test_a_profile_whose_gpu_is_not_here_is_said_on_the_page(house, page, stopped):
    from themisto_hub.spawners.gpu import inventory

    if inventory():
        pytest.skip("this machine has GPUs")
    enter(page, house, "colleague")
    page.goto(f"{house.settings.public}/hub/spawn")
    page.get_by_text("GPU slice", exact=True).click()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("MIG 1g.10gb").first.wait_for()
    shoot(page, "08-no-gpu")
    assert "Traceback" not in page.content()


def test_who_asked_for_it_is_refused_on_the_review_page(house, waiting, page):
    page.goto(house.settings.review_url)
    log_in(page, house, "scientist")
    page.locator("#problem").wait_for()
    shoot(page, "09-refused")


def test_a_reviewer_sees_the_difference_and_approves(house, kernel, waiting, page):
    page.goto(house.settings.review_url)
    log_in(page, house, "reviewer")
    page.get_by_text("mortgages@2").wait_for()
    shoot(page, "10-waiting")
    page.get_by_text("mortgages@2").click()
    log_in(page, house, "reviewer")
    page.wait_for_selector("#approve")
    shoot(page, "11-review", full_page=True)
    page.locator("summary", has_text="the same").first.click()
    page.get_by_text("400", exact=True).first.wait_for()
    changed = page.locator("tr.changed")
    assert {"accuracy", "num_boost_round"} <= set(changed.locator("th").all_inner_texts())
    assert page.locator(".removed", has_text="5 trees").count() == 1
    assert page.locator(".added", has_text="40 trees").count() == 1
    page.click("#approve")
    page.wait_for_selector("#decided")
    shoot(page, "12-decided")
    assert tell(kernel, ANSWERS.format(number=2)) == "mortgages@2"


def test_twenty_lines_in_lab_go_from_data_to_an_endpoint(house, people, page):
    """The notebook that the README shows, run by hand; its picture is docs/panel.png."""
    people["scientist"].ensure_server(None)
    enter(page, house, "scientist")
    page.goto(f"{house.settings.public}/user/scientist/lab/tree/notebooks/00-twenty-lines.ipynb?reset")
    panel = open_panel(page)
    # Lab forgets what is run before its kernel is there.
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(page.locator(".jp-OutputArea").get_by_text("twenty lines from data to first_steps@1")).to_be_visible(
        timeout=120_000
    )
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    page.get_by_role("button", name="Save and create checkpoint").click()
    expect(panel.locator(".themisto-Card", has_text="first_steps")).to_contain_text("100 %")
    refresh = panel.get_by_role("button", name=re.compile("refresh", re.IGNORECASE))
    refresh.click()
    expect(panel).to_contain_text("first-steps", timeout=30_000)
    page.locator(".jp-NotebookPanel .jp-CodeCell").nth(2).evaluate("cell => cell.scrollIntoView({block: 'start'})")
    shoot(page, "readme")
