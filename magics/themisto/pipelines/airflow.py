"""A pipeline as an Airflow DAG: a pod a step, values on a volume that the steps share."""

from __future__ import annotations

import ast
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from themisto.pipelines.compiler import gpu_resources
from themisto.pipelines.models import Pipeline, Task
from themisto.profiles import Profile

__all__ = ["as_dag", "export"]

_DAG = r"""
from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, Param
from kubernetes.client import models as k8s

# A ReadWriteMany claim: what one step writes, the next one reads.
CLAIM = "themisto-pipeline"
STORE = "/pipeline"

with DAG(
    dag_id=PIPELINE["name"],
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={name: Param(value) for name, value in PIPELINE["parameters"].items()},
    tags=["themisto"],
) as dag:
    tasks = {}
    for step in PIPELINE["steps"]:
        parameters = ", ".join(
            f"{json.dumps(name)}: {{{{ params[{name!r}] | tojson }}}}" for name in step["parameters"]
        )
        # The step's code is data for its pod: a brace that Airflow would take for a template is escaped.
        code = re.sub(r"\{(?=[{%#])", r"\\u007b", json.dumps(step["code"]))
        tasks[step["name"]] = KubernetesPodOperator(
            task_id=step["name"],
            name=step["name"].replace("_", "-"),
            image=step["image"],
            cmds=["python", "-m", "themisto.pipelines.runner"],
            env_vars=[
                k8s.V1EnvVar(name="THEMISTO_STEP", value=code),
                k8s.V1EnvVar(name="THEMISTO_STEP_PARAMETERS", value="{" + parameters + "}"),
                k8s.V1EnvVar(name="THEMISTO_STORE", value=STORE + "/{{ run_id }}"),
            ],
            container_resources=k8s.V1ResourceRequirements(limits=step["limits"] or None),
            volumes=[
                k8s.V1Volume(
                    name="values", persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name=CLAIM)
                )
            ],
            volume_mounts=[k8s.V1VolumeMount(name="values", mount_path=STORE)],
            retries=step["retries"],
            execution_timeout=timedelta(seconds=step["timeout_s"]) if step["timeout_s"] else None,
            startup_check_interval_seconds=1,
            on_finish_action="delete_pod",
        )
        for producer in step["after"]:
            tasks[producer] >> tasks[step["name"]]
"""


def export(pipeline: Pipeline, file: Path, *, image: str, profiles: Mapping[str, Profile] | None = None) -> None:
    """Write the DAG to `file` (Airflow 3 with the cncf-kubernetes provider)."""
    file.write_text(as_dag(pipeline, image=image, profiles=profiles or {}))


def as_dag(pipeline: Pipeline, *, image: str, profiles: Mapping[str, Profile]) -> str:
    """The DAG's text: the pipeline as one Python literal, then code that is the same for all."""
    data = {
        "name": pipeline.name,
        "parameters": dict(pipeline.parameters),
        "steps": [_step(task, image, profiles.get(task.profile or "")) for task in pipeline.tasks],
    }
    literal = pprint.pformat(data, width=110, sort_dicts=False)
    text = f'"""{pipeline.name}: exported by themisto; change the notebook and export again."""\n{_DAG}'
    head, _, body = text.partition("\n# A ReadWriteMany")
    dag = f"{head}\nPIPELINE = {literal}\n\n# A ReadWriteMany{body}"
    ast.parse(dag)
    return dag


def _step(task: Task, image: str, profile: Profile | None) -> dict[str, Any]:
    limits = {}
    if profile is not None:
        limits = {"cpu": f"{profile.cpu:g}", "memory": f"{profile.memory_gib:g}Gi"}
        limits |= {name: str(count) for name, count in gpu_resources(profile).items()}
    return {
        "name": task.name,
        "image": profile.images[0] if profile else image,
        "limits": limits,
        "retries": task.retries,
        "timeout_s": task.timeout_s,
        "parameters": list(task.parameters),
        "after": sorted(set(task.inputs.values())),
        "code": {
            "name": task.name,
            "definitions": task.definitions,
            "source": task.source,
            "inputs": {name: f"{step}/{name}" for name, step in task.inputs.items()},
            "outputs": {name: f"{task.name}/{name}" for name in task.outputs},
            "formats": {name: chosen for name, chosen in task.outputs.items() if chosen},
            "timeout_s": task.timeout_s,
        },
    }
