"""What keeps people apart when the hub runs as root: uids, private mounts, control groups."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from themisto_hub.spawners.enclosure import Enclosure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

READ = """
import pathlib
for path in {paths!r}:
    try:
        print(path, 'READ', pathlib.Path(path).read_bytes()[:20] if pathlib.Path(path).is_file()
              else [p.name for p in pathlib.Path(path).iterdir()])
    except OSError as error:
        print(path, type(error).__name__)
"""


@pytest.fixture(scope="module")
def two(walled_hub):
    """Two people, each with a running server."""
    with walled_hub.browser("scientist") as scientist, walled_hub.browser("colleague") as colleague:
        scientist.start_server("cpu-small")
        colleague.start_server("cpu-small")
        yield scientist, colleague
        scientist.stop_server()
        colleague.stop_server()


def test_each_kernel_runs_under_a_uid_of_its_own(walled_hub, two):
    uids = [int(walled_hub.run(b, "import os; print(os.getuid())")) for b in two]
    assert len(set(uids)) == 2
    assert all(700_000 <= uid < 800_000 for uid in uids)


def test_a_kernel_has_the_magics_and_the_person_a_name(walled_hub, two):
    printed = walled_hub.run(
        two[0],
        "import getpass, os, subprocess\n"
        "print(get_ipython().find_line_magic('themisto') is not None, getpass.getuser(), os.path.exists('notebooks'))\n"
        "print(subprocess.run(['git', 'log', '--format=%an'], cwd='notebooks', capture_output=True, text=True).stdout)",
    )
    assert printed.split() == ["True", "scientist", "True", "scientist"]


def test_one_cannot_read_what_is_anothers_or_the_hubs(walled_hub, two):
    first, second = two
    home, pid = walled_hub.run(first, "import os; print(os.environ['HOME'], os.getppid())").split()
    state = walled_hub.state
    paths = [home, f"{home}/.gitconfig", f"/proc/{pid}/environ", str(state / "hub"), str(state / "homes" / "uids.json")]
    paths += [
        str(state / "hub" / "jupyterhub.sqlite"),
        str(state / "idp" / "users.yaml"),
        str(state / "homes" / "logs"),
    ]
    printed = walled_hub.run(second, READ.format(paths=paths))
    assert "READ" not in printed
    assert len(printed.splitlines()) == len(paths)


def test_processes_of_others_are_not_seen(walled_hub, two):
    printed = walled_hub.run(
        two[1],
        "import os\n"
        "seen = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "print({os.stat(f'/proc/{p}').st_uid for p in seen if os.path.exists(f'/proc/{p}')} == {os.getuid()})",
    )
    assert printed == "True\n"


def test_kernels_talk_over_sockets_in_a_private_folder(walled_hub, two):
    printed = walled_hub.run(
        two[0],
        "import glob, json, os, stat\n"
        "files = glob.glob(os.environ['JUPYTER_RUNTIME_DIR'] + '/kernel-*.json')\n"
        "print({json.load(open(f))['transport'] for f in files})",
    )
    assert printed == "{'ipc'}\n"


def test_tmp_is_private(walled_hub, two):
    walled_hub.run(two[0], "open('/tmp/left-here', 'w').write('x')")
    assert walled_hub.run(two[1], "import os; print(os.path.exists('/tmp/left-here'))") == "False\n"
    assert not Path("/tmp/left-here").exists()


def test_a_kernel_over_its_memory_is_ended_and_the_server_lives(walled_hub):
    with walled_hub.browser("admin") as browser:
        browser.start_server("tiny")
        kernel = walled_hub.kernel(browser)
        with pytest.raises(Exception, match=r"kernel died|channel closed"):
            kernel.run("block = bytearray(2**30)\nfor i in range(0, len(block), 4096): block[i] = 1", "1")
        kernel.close()
        walled_hub.until(lambda: "went over its memory limit" in walled_hub.log("hub"), what="a word in the log")
        assert walled_hub.run(browser, "print('alive')") == "alive\n"
        browser.stop_server()


def test_nothing_of_a_server_is_left_after_its_end(walled_hub):
    with walled_hub.browser("reviewer") as browser:
        browser.start_server("cpu-small")
        uid = int(
            walled_hub.run(
                browser,
                "import os, subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nprint(os.getuid())",
            )
        )
        browser.stop_server()
    left = [p for p in psutil.process_iter(["uids", "status"]) if p.info["uids"].real == uid]
    assert [p for p in left if p.info["status"] != psutil.STATUS_ZOMBIE] == []
    roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    groups = [g for r in roots for g in r.glob("themisto-*/*-default") if (g / "cgroup.procs").read_text() == ""]
    assert groups == []


def test_a_job_has_another_uid_and_no_home_of_anybody(walled_hub):
    with walled_hub.browser("scientist") as browser:
        token = browser.api("POST", "users/scientist/tokens", json={"note": "to look"}).json()["token"]
    with walled_hub.service() as api:
        where = "users/scientist/servers/job-walls"
        api.post(where, json={"user_options": {"profile": "job-small"}}).raise_for_status()
        walled_hub.until(
            lambda: api.get("users/scientist").json()["servers"]["job-walls"]["ready"], what="the job's server"
        )
        own = json.loads((walled_hub.state / "homes" / "uids.json").read_text())
        seen = httpx.get(
            f"{walled_hub.url}/user/scientist/job-walls/",
            headers={"Authorization": f"token {token}"},
            timeout=10,
        ).json()
        api.request("DELETE", where, json={"remove": True}).raise_for_status()
    assert seen["uid"] == own["scientist#jobs"] != own.get("scientist")
    assert seen["homes"] == []
    assert "notebooks" not in seen["in_home"]
    assert seen["group"] == "data-science"


def test_code_and_home_below_tmp_stay_visible_in_a_private_tmp(tmp_path):
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    code, home, passwd = tmp_path / "checkout", tmp_path / "home", tmp_path / "passwd"
    for folder in (code, home):
        folder.mkdir()
    (code / "greeting.py").write_text("print('hello')")
    (tmp_path / "secret").write_text("hidden")
    shutil.copy("/etc/passwd", passwd)
    os.chown(home, 799_999, 799_999)
    script = f"import os, runpy; runpy.run_path({str(code / 'greeting.py')!r}); "
    script += (
        f"print(os.getcwd() == {str(home)!r}, os.path.exists({str(tmp_path / 'secret')!r}), sorted(os.listdir('/tmp')))"
    )
    command = Enclosure(uid=799_999, home=home, passwd=passwd, code=[code]).wrap([sys.executable, "-c", script])
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    # What the interpreter itself needs stays in sight too, where it lies below /tmp.
    kept = {Path(p).parts[2] for p in (str(tmp_path), sys.prefix, sys.base_prefix) if p.startswith("/tmp/")}
    assert done.stderr == ""
    assert done.stdout.split("\n")[:2] == ["hello", f"True False {sorted(kept)}"]
