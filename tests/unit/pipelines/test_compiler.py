"""Compiled pipelines are kfp's own, complete, and quick to make."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from themisto.errors import Invalid
from themisto.pipelines.airflow import as_dag
from themisto.pipelines.compiler import compile_pipeline
from themisto.pipelines.inference import infer
from themisto.pipelines.models import Pipeline, Step
from themisto.pipelines.notebook import Notebook
from themisto.profiles import Gpu, Profile

GPU = Profile(
    name="gpu",
    display_name="GPU",
    cpu=2,
    memory_gib=4,
    gpu=Gpu(mig="1g.10gb"),
    images=("themisto/gpu:1",),
    groups=("data-science",),
    price_per_hour="1",
)


def sample() -> Pipeline:
    steps = [
        Step(name="load", source='df = pd.DataFrame({"x": range(n)})\nquote = """{{ it }}"""', at=1),
        Step(
            name="train-it",
            source="m = df.x.sum() + len(quote)",
            at=1,
            profile="gpu",
            retries=2,
            timeout_s=60,
            cache=False,
        ),
    ]
    return infer("my-pipe", steps, Notebook(["import pandas as pd\nn = 3"]))


def test_the_yaml_loads_in_kfp_and_carries_what_the_steps_asked_for(tmp_path: Path) -> None:
    from kfp import components
    from ruamel.yaml import YAML

    file = tmp_path / "p.yaml"
    compile_pipeline(sample(), file, image="themisto/notebook", profiles={"gpu": GPU})
    components.load_component_from_file(str(file))
    ir = YAML(typ="safe").load(file.read_text())
    assert ir["pipelineInfo"]["name"] == "my-pipe"
    assert ir["root"]["inputDefinitions"]["parameters"]["n"]["parameterType"] == "NUMBER_INTEGER"
    container = ir["deploymentSpec"]["executors"]["exec-train-it"]["container"]
    assert container["image"] == "themisto/gpu:1"
    assert container["resources"]["resourceMemoryLimit"] == "4Gi"
    assert container["resources"]["accelerator"]["resourceType"] == "nvidia.com/mig-1g.10gb"
    assert not any("pip install" in part for part in container["command"])
    tasks = ir["root"]["dag"]["tasks"]
    assert tasks["train-it"]["retryPolicy"]["maxRetryCount"] == 2
    assert tasks["train-it"]["cachingOptions"].get("enableCache", False) is False
    assert tasks["load"]["cachingOptions"]["enableCache"] is True


def test_a_hundred_steps_in_a_row_are_a_hundred_tasks(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    steps = [Step(name=f"s{n}", source=f"v{n} = {f'v{n - 1} + 1' if n else 'start'}", at=1) for n in range(100)]
    compile_pipeline(infer("many", steps, Notebook(["start = 1"])), tmp_path / "p.yaml", image="i")
    tasks = YAML().load(tmp_path / "p.yaml")["root"]["dag"]["tasks"]
    assert [tasks[f"s{n}"]["dependentTasks"] for n in range(1, 100)] == [[f"s{n - 1}"] for n in range(1, 100)]


def test_steps_that_are_one_name_to_kubeflow_are_refused(tmp_path: Path) -> None:
    steps = [Step(name="a-b", source="x = 1", at=0), Step(name="a_b", source="y = 1", at=0)]
    with pytest.raises(Invalid, match="'a-b' and 'a_b'"):
        compile_pipeline(infer("p", steps, Notebook([])), tmp_path / "p.yaml", image="i")


def test_the_dag_is_python_and_keeps_code_as_data() -> None:
    dag = as_dag(sample(), image="themisto/notebook", profiles={"gpu": GPU})
    tree = ast.parse(dag)
    literal = next(n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "PIPELINE")
    data = ast.literal_eval(literal)
    assert [s["name"] for s in data["steps"]] == ["load", "train-it"]
    assert data["steps"][1]["after"] == ["load"]
    assert data["steps"][1]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert "{{ it }}" in data["steps"][0]["code"]["source"]
