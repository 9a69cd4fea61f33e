"""The recipes of CONTRIBUTING.md, followed to the letter: their code blocks are what is installed and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def section(title: str) -> dict[str, str]:
    """The code blocks of a section, by language."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    return dict(BLOCK.findall(text))


@pytest.fixture
def package(tmp_path):
    """Lay a recipe's package out as an installer would: the module and its entry points."""

    def make(title: str) -> dict[str, str]:
        blocks = section(title)
        file = tmp_path / re.match(r"# (\S+)\n", blocks["python"]).group(1)
        file.parent.mkdir()
        (file.parent / "__init__.py").touch()
        file.write_text(blocks["python"])
        group, name, value = re.search(r'entry-points\."([\w.]+)"\]\n(\w+) = "(.+)"', blocks["toml"]).groups()
        info = tmp_path / "recipe-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recipe\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        return {**os.environ, "PYTHONPATH": str(tmp_path)}

    return make


def test_a_profile_is_one_file(tmp_path):
    from themisto_hub.profiles import load_profiles

    (tmp_path / "cpu-large.yaml").write_text(section("Add a profile")["yaml"])
    (profile,) = load_profiles(tmp_path)
    assert (profile.name, profile.cpu, profile.memory_gib) == ("cpu-large", 8, 32)


def test_an_exporter_from_another_package_passes_the_parity_gate(package):
    environment = package("Add an exporter")
    code = (
        "import pandas as pd\n"
        "from my_exporters.constant import Constant\n"
        "from themisto.serving.candidate import Candidate\n"
        "from themisto.serving.exporter import exporter_for\n"
        "from themisto.serving.parity import Tolerance\n"
        "model, sample = Constant(7.5), pd.DataFrame({'x': [1.0, 2.0]}, dtype='float32')\n"
        "candidate = Candidate.exported(exporter_for(model), model, sample)\n"
        "parity, golden = candidate.prove(Tolerance())\n"
        "print(parity.rows, candidate.export.artifact.kind, golden.outputs)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 onnx {'prediction': [")


def test_an_online_store_from_another_package_passes_the_contract(package):
    environment = package("Add an online store") | {"THEMISTO_TEST_STORE": "memory://"}
    suite = "tests/integration/features/test_online_stores.py"
    command = [sys.executable, "-m", "pytest", "-q", "-k", "memory", "-p", "no:cacheprovider", suite]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
