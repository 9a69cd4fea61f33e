"""Homes and accounts: numbers for people, and what a new home holds."""

import subprocess

import pytest

from themisto_hub.spawners.accounts import FIRST_UID, Accounts
from themisto_hub.spawners.homes import Homes


@pytest.fixture
def homes(tmp_path):
    tour = tmp_path / "tour"
    tour.mkdir()
    (tour / "01-track.ipynb").write_text("{}")
    return Homes(tmp_path / "homes", tour, owned=False)


@pytest.fixture(autouse=True)
def root(tmp_path):
    (tmp_path / "homes").mkdir()


def test_numbers_are_never_given_twice(tmp_path):
    accounts = Accounts(tmp_path)
    numbers = [accounts.uid(u, s) for u, s in [("a", ""), ("b", ""), ("a", "job-1"), ("a", "other"), ("a", "job-2")]]
    assert numbers == [FIRST_UID, FIRST_UID + 1, FIRST_UID + 2, FIRST_UID, FIRST_UID + 2]
    assert Accounts(tmp_path).uid("b", "") == FIRST_UID + 1
    assert (tmp_path / "uids.json").stat().st_mode & 0o777 == 0o600


def test_a_new_home_holds_the_tour_and_loads_the_magics(homes):
    home = homes.home(FIRST_UID, "scientist", "scientist@example.com")
    assert (home / "notebooks" / "01-track.ipynb").read_text() == "{}"
    assert 'append("themisto")' in (home / ".ipython/profile_default/ipython_config.py").read_text()
    log = subprocess.run(
        ["git", "log", "--format=%an %ae"], cwd=home / "notebooks", capture_output=True, text=True, check=True
    )
    assert log.stdout == "scientist scientist@example.com\n"


def test_a_home_that_is_there_is_not_touched(homes):
    home = homes.home(FIRST_UID, "scientist", "scientist@example.com")
    (home / ".gitconfig").unlink()
    (home / "notebooks" / "01-track.ipynb").unlink()
    assert homes.home(FIRST_UID, "scientist", "scientist@example.com") == home
    assert not (home / ".gitconfig").exists()
    assert not (home / "notebooks" / "01-track.ipynb").exists()


def test_a_half_made_home_is_made_anew(homes, tmp_path):
    half = tmp_path / "homes" / "home" / f".new-{FIRST_UID}"
    half.mkdir(parents=True)
    (half / "rest").touch()
    home = homes.home(FIRST_UID, "scientist", "s@example.com")
    assert not (home / "rest").exists()


def test_a_jobs_folder_holds_nothing_of_the_person_and_is_removed(homes):
    homes.home(FIRST_UID, "scientist", "s@example.com")
    scratch = homes.scratch(FIRST_UID + 1, "job-1", "scientist", "s@example.com")
    (scratch / "output").touch()
    assert not (scratch / "notebooks").exists()
    assert homes.scratch(FIRST_UID + 1, "job-1", "scientist", "s@example.com") == scratch
    assert not (scratch / "output").exists()
    homes.forget(FIRST_UID + 1, "job-1")
    assert not scratch.exists()


def test_a_name_with_quotes_and_newlines_stays_a_name(homes):
    home = homes.home(FIRST_UID, 'Eve"\n[core]\n\tsshCommand = touch /x', "e@example.com")
    found = subprocess.run(
        ["git", "config", "--file", ".gitconfig", "--list"], cwd=home, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[0].startswith("user.name=Eve[core]")
    assert not [line for line in found.stdout.splitlines() if line.startswith("core.")]


def test_a_user_name_is_never_a_path_nor_a_second_account(homes, tmp_path):
    home = homes.home(FIRST_UID, "../../etc", "e@example.com")
    assert home == tmp_path / "homes" / "home" / str(FIRST_UID)
    passwd = homes.passwd(FIRST_UID, "", "x:0:0\nroot2", home)
    assert passwd.read_text().splitlines()[-1].startswith(f"x_0_0_root2:x:{FIRST_UID}:{FIRST_UID}:")
