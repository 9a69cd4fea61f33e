"""Profiles: what a folder of YAML files means, and how its mistakes are told."""

from pathlib import Path

import pytest

from themisto.errors import Conflict, Invalid, NotFound
from themisto_hub.profiles import allowed, load_profiles

ROOT = Path(__file__).resolve().parents[3]
GOOD = """\
name: good
display_name: Good
cpu: 1
memory_gib: 2
images: [themisto/notebook:1]
groups: [data-science]
price_per_hour: 0.1
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_the_shipped_profiles_are_sound():
    profiles = load_profiles(ROOT / "profiles")
    assert [p.name for p in profiles] == ["job-small", "cpu-small", "cpu-medium", "gpu-mig-1g", "gpu-full"]
    assert [p.name for p in allowed(profiles, ["data-science"], "notebook")] == [
        "cpu-small",
        "cpu-medium",
        "gpu-mig-1g",
    ]
    assert [p.name for p in allowed(profiles, ["model-risk"], "notebook")] == ["cpu-small"]
    assert [p.name for p in allowed(profiles, ["platform-admins"], "notebook")] == ["cpu-small", "gpu-full"]
    assert allowed(profiles, [], "notebook") == []


def test_a_changed_file_is_seen(tmp_path):
    files = folder(tmp_path, good=GOOD)
    assert load_profiles(files)[0].cpu == 1
    folder(tmp_path, good=GOOD.replace("cpu: 1", "cpu: 12"))
    assert load_profiles(files)[0].cpu == 12


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("memory_gib: 2", "memory: 2 GB"), 4, r"unknown key 'memory'\. Did you mean memory_gib \(a number of GiB"),
        (("memory_gib: 2", "memory_gib: 2 GB"), 4, r"memory_gib: '2 GB' will not do.*without a unit"),
        (("memory_gib: 2", "memory_gib: -1"), 4, "greater than 0"),
        (("cpu: 1", "cpu: 500m"), 3, "Write a number of cores"),
        (("cpu: 1", "cpus: 1"), 3, "Did you mean cpu"),
        (("images: [themisto/notebook:1]", 'images: ["x\\n--privileged"]'), 5, "images"),
        (("price_per_hour: 0.1", "price_per_hour: free"), 7, "price_per_hour"),
        (("price_per_hour: 0.1", "price_per_hour: 0.1\ngpu: {mig: big}"), 8, "mig"),
        (("price_per_hour: 0.1", "price_per_hour: 0.1\ngpu:\n  count: 1\n  slices: 2"), 10, "unknown key 'gpu.slices'"),
        (("name: good", "name: Good Name"), 1, "name"),
        (("name: good", "name: !!python/object/apply:os.system [id]"), 1, "name"),
        (("cpu: 1", "cpu: 1\ncpu: 2"), 4, "duplicate key"),
        (("cpu: 1", "cpu: [1"), 4, "."),
        (("display_name: Good\n", ""), 1, "'display_name' is missing"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path, change, line, words):
    with pytest.raises(Invalid, match=words) as raised:
        load_profiles(folder(tmp_path, bad=GOOD.replace(*change)))
    assert raised.value.detail.startswith(f"{tmp_path / 'bad.yaml'}:{line}: ")


@pytest.mark.parametrize("text", ["", "- a list\n", "just words\n"])
def test_what_is_no_profile_at_all_is_refused(tmp_path, text):
    with pytest.raises(Invalid, match=r"bad\.yaml:1: a profile is a list of"):
        load_profiles(folder(tmp_path, bad=text))


def test_a_name_used_twice_names_both_files(tmp_path):
    with pytest.raises(Conflict, match=r"one\.yaml and .*two\.yaml both name the profile 'good'"):
        load_profiles(folder(tmp_path, one=GOOD, two=GOOD))


def test_a_folder_without_profiles_says_which(tmp_path):
    with pytest.raises(NotFound, match="There are no profiles in"):
        load_profiles(tmp_path)
