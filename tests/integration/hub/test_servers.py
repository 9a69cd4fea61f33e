"""Servers as a person starts them: what is offered, what is refused, what she finds inside."""

import json
import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from themisto.errors import Failed, Refused


@pytest.fixture(scope="module")
def scientist(hub):
    with hub.browser("scientist") as browser:
        browser.start_server("cpu-small")
        yield browser
        browser.stop_server()


def test_the_form_offers_what_her_groups_allow(hub):
    with hub.browser("scientist") as browser:
        assert browser.profiles("other") == ["cpu-small", "cpu-medium", "gpu-mig-1g"]
        assert browser.profiles("job-x") == ["job-small", "cpu-medium", "gpu-mig-1g"]
    with hub.browser("reviewer") as browser:
        assert browser.profiles() == ["cpu-small"]


def test_the_form_says_that_there_is_no_isolation(hub):
    with hub.browser("reviewer") as browser:
        assert "One trust domain: no isolation, limits advisory." in browser.open("/hub/spawn/reviewer").text


@pytest.mark.parametrize("profile", ["cpu-medium", "gpu-full", "no-such", "../cpu-small"])
def test_a_forged_profile_is_refused(hub, profile):
    with hub.browser("reviewer") as browser:
        with pytest.raises(Refused, match=r"not open to you here\. You may use: cpu-small"):
            browser.start_server(profile)
        assert browser.server() == {}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"profile": "gpu-full"}, 403),
        ({"profile": ["cpu-small"]}, 403),
        ({"profile": "cpu-small", "group": "model-risk"}, 403),
        ({"profile": "cpu-small", "image": "evil\n"}, 400),
        ({"profile": "cpu-small", "cmd": ["sh"]}, 400),
    ],
)
def test_forged_options_are_refused_by_the_api(hub, options, status):
    with hub.browser("colleague") as browser:
        answer = browser._send(
            "POST",
            f"{hub.url}/hub/api/users/colleague/server",
            json={"user_options": options},
            headers={"X-XSRFToken": browser._xsrf("/hub/")},
        )
        assert answer.status_code == status, answer.text
        assert browser.server() == {}


def test_a_gpu_profile_without_a_gpu_is_refused_in_words(hub):
    with (
        hub.browser("colleague") as browser,
        pytest.raises(Refused, match=r"This machine has no MIG 1g.10gb slice, and the profile needs 1 x MIG 1g.10gb"),
    ):
        browser.start_server("gpu-mig-1g")


def test_a_kernel_knows_the_workbench_and_nothing_secret(hub, scientist):
    printed = json.loads(hub.run(scientist, "import os, json; print(json.dumps(dict(os.environ)))"))
    assert printed["THEMISTO_URL"] == f"{hub.url}/services/themisto"
    assert printed["THEMISTO_GROUP"] == "data-science"
    assert printed["CUDA_VISIBLE_DEVICES"] == ""
    assert not [name for name in printed if name.startswith("THEMISTO_KEY")]
    assert not set(printed.values()) & set(hub.keys.values())


def test_the_magics_are_loaded_by_themselves(hub, scientist):
    assert hub.run(scientist, "print(get_ipython().find_line_magic('themisto') is not None)") == "True\n"


def test_a_channel_that_was_cut_while_nobody_looked_is_opened_anew(hub, scientist):
    kernel = hub.kernel(scientist)
    kernel.run("kept = 42", "1")
    kernel._socket.shutdown()  # as the server does when its pings stay unanswered
    kernel._idle_s = 0.0
    outputs, _, failed = kernel.run("print(kept)", "2")
    kernel.close()
    assert (outputs[0].text, failed) == ("42\n", False)


def test_a_new_home_holds_the_tour_under_version_control(hub, scientist):
    code = "import subprocess as s; print(s.run('git log --format=%an%n%s', shell=True, cwd='notebooks', "
    printed = hub.run(scientist, code + "capture_output=True, text=True).stdout, __import__('os').listdir('.'))")
    assert printed.startswith("scientist\nThe tour, as it came")


def test_what_she_chose_is_kept_for_who_counts_hours(hub, scientist):
    with hub.service() as api:
        server = api.get("users/scientist").json()["servers"][""]
    assert server["user_options"] == {"profile": "cpu-small", "group": "data-science"}


@pytest.mark.parametrize("user", ["admin", "reviewer"])
def test_a_kernels_token_never_carries_approve_or_admin(hub, user):
    with hub.browser(user) as browser:
        browser.start_server("cpu-small")
        token = hub.run(browser, "import os; print(os.environ['JUPYTERHUB_API_TOKEN'])").strip()
        model = httpx.get(
            f"{hub.settings.hub_api}/user", headers={"Authorization": f"token {token}"}, timeout=10
        ).json()
        browser.stop_server()
    scopes = model["scopes"]
    assert model["groups"] == [{"admin": "platform-admins", "reviewer": "model-risk"}[user]]
    assert f"access:servers!server={user}/" in scopes
    custom = {scope for scope in scopes if scope.startswith("custom:themisto:")}
    assert "custom:themisto:infer" in custom
    assert not custom & {"custom:themisto:approve", "custom:themisto:admin"}
    assert not [scope for scope in scopes if scope.startswith(("tokens", "servers", "admin"))]


def test_one_person_does_not_enter_anothers_server(hub, scientist):
    with hub.browser("colleague") as other:
        assert other.open(scientist.server_url() + "api/contents").status_code in (403, 404)
        token = other.api("POST", "users/colleague/tokens", json={"note": "mine"}).json()["token"]
    answer = httpx.get(scientist.server_url() + "api/contents", headers={"Authorization": f"token {token}"}, timeout=10)
    assert answer.status_code == 403


def test_a_server_that_was_killed_is_noticed_and_leaves_nothing(hub):
    with hub.browser("colleague") as browser:
        browser.start_server("cpu-small")
        server, kernel = map(int, hub.run(browser, "import os; print(os.getppid(), os.getpid())").split())
        os.kill(server, signal.SIGKILL)
        hub.until(lambda: not browser.server().get("ready"), what="the end of the server")
        hub.until(lambda: not psutil.pid_exists(kernel), what="the end of its kernel")


def test_a_server_outlives_a_killed_hub(hub, scientist):
    before = hub.run(scientist, "import os; print(os.getppid())")
    hub.stop("hub", number=signal.SIGKILL)
    hub.start("hub")
    assert scientist.server()["ready"]
    assert hub.run(scientist, "import os; print(os.getppid())") == before


def test_the_control_plane_starts_a_job_in_a_folder_of_its_own(hub):
    hub.browser("scientist").close()
    with hub.service() as api:
        api.post("users/scientist/servers/job-1", json={"user_options": {"profile": "job-small"}}).raise_for_status()
        hub.until(lambda: api.get("users/scientist").json()["servers"]["job-1"]["ready"], what="the job's server")
        spawned = next((hub.state / "homes" / "scratch").iterdir())
        assert sorted(p.name for p in spawned.iterdir() if p.name == "notebooks") == []
        api.request("DELETE", "users/scientist/servers/job-1", json={"remove": True}).raise_for_status()
        hub.until(lambda: "job-1" not in api.get("users/scientist").json()["servers"], what="its end")
    assert not spawned.exists()


def test_a_profile_for_people_only_is_refused_for_a_job(hub):
    hub.browser("scientist").close()
    with hub.service() as api:
        answer = api.post("users/scientist/servers/job-2", json={"user_options": {"profile": "cpu-small"}})
    assert answer.status_code == 403
    assert "job-small" in answer.json()["message"]


def test_a_server_that_ends_at_once_is_told_at_once(hub):
    with hub.browser("colleague") as browser:
        browser.start_server("cpu-small")
        code = "config.write_text('import os; os._exit(3)'); print(os.environ['HOME'])"
        code = f"import os, pathlib; config = pathlib.Path('.jupyter/jupyter_server_config.py'); {code}"
        home = Path(hub.run(browser, code).strip())
        browser.stop_server()
        with pytest.raises(Failed, match=r"The server ended at once|did not start"):
            browser.start_server("cpu-small", wait_s=20)
        (home / ".jupyter" / "jupyter_server_config.py").unlink()
        browser.start_server("cpu-small")
        browser.stop_server()
