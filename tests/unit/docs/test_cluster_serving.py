"""What docs/cluster-serving.md shows runs, and what it lists is what the code has."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from tests.unit.cluster.plans import DIGEST
from tests.unit.control.serving.conftest import World

from themisto_hub.cli import _parser
from themisto_hub.cluster.around import QUEUE_METRIC
from themisto_hub.cluster.capabilities import WAIVABLE
from themisto_hub.cluster.settings import ClusterSettings

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "cluster-serving.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("themisto ")])
def test_commands_are_understood(line):
    args = _parser().parse_args(shlex.split(line)[1:])
    assert args.endpoint == "credit"


def test_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THEMISTO_CLUSTER_TRITON_IMAGE", f"tritonserver{DIGEST}")
    world = World(tmp_path / "state", profiles_dir=ROOT / "profiles")
    world.live(cell="a")
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(example, {"control": world.control, "operator": world.caller("operator", scopes=())})
    assert capsys.readouterr().out == "istio ('credit@1',)\n"
    world.control.close()


def test_adapter_rule_gives_the_metric_that_the_autoscaler_asks_for():
    (rules,) = [yaml.safe_load(text)["rules"] for kind, text in BLOCKS if kind == "yaml"]
    assert [rule["name"]["as"] for rule in rules] == [QUEUE_METRIC]


def test_settings_are_told_as_they_are():
    for name, field in ClusterSettings.model_fields.items():
        assert f"| `THEMISTO_CLUSTER_{name.upper()}` |" in TEXT
        assert field.description in TEXT


def test_secrets_it_makes_are_those_the_pods_ask_for():
    fields = ClusterSettings.model_fields
    made = "\n".join(line for line in COMMANDS if line.startswith("kubectl"))
    for name in ("triton_secret", "store_secret", "namespace"):
        assert fields[name].default in made


def test_what_may_be_waived_is_told():
    for feature in WAIVABLE:
        assert feature in " ".join(COMMANDS)
