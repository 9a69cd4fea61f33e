"""A notebook's steps, from cells to runs: a real IPython, kfp's own local runner, real processes."""

from __future__ import annotations

import ast
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import themisto.workbench
from themisto.pipelines.service import Pipelines
from themisto.settings import Settings
from themisto.workbench import Workbench

SETUP = [
    "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression",
    "rows = 60\nC = 1.0",
    "def label(df):\n    return (df['a'] > df['b']).astype(int)",
]
STEPS = {
    "load": "df = pd.DataFrame({'a': range(rows), 'b': [rows / 2] * rows})",
    "features": "df['y'] = label(df)\nX = df[['a', 'b']]\nscratch = object()",
    "train": "model = LogisticRegression(C=C).fit(X, df['y'])",
    "evaluate": "auc = float(model.score(X, df['y']))\nauc",
}


class Notebook:
    """A notebook in this process; `run` gives a cell's value or raises what it raised."""

    def __init__(self, settings: Settings) -> None:
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance()
        self.wb = Workbench(settings)
        themisto.workbench._current = self.wb
        self.run("%load_ext themisto")

    @property
    def pipelines(self) -> Pipelines:
        return self.wb.pipelines

    def run(self, cell: str) -> Any:
        answer = self.shell.run_cell(cell, store_history=True)
        answer.raise_error()
        return answer.result

    def step(self, name: str, body: str, options: str = "") -> Any:
        return self.run(f"%%step {name} {options}\n{body}")


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    made = Notebook(Settings(home=tmp_path / "home", url=None))
    for cell in SETUP:
        made.run(cell)
    yield made
    InteractiveShell.clear_instance()
    themisto.workbench._current = None


def states(table: Any) -> list[str]:
    return [row["state"] for row in table]


def test_four_steps_run_are_cached_and_run_again_from_where_something_changed(notebook: Notebook) -> None:
    for name, body in STEPS.items():
        notebook.step(name, body)
    assert notebook.shell.user_ns["auc"] > 0.9, "a step's cell runs in the notebook"

    first = notebook.run("%pipeline run")
    assert states(first) == ["done"] * 4
    assert first.value("auc") == notebook.shell.user_ns["auc"]

    assert states(notebook.run("%pipeline run")) == ["cached"] * 4

    notebook.step("train", "model = LogisticRegression(C=C, max_iter=50).fit(X, df['y'])")
    again = notebook.run("%pipeline run")
    assert states(again) == ["cached", "cached", "done", "done"]

    other = notebook.run("%pipeline run -p rows=80")
    assert states(other) == ["done"] * 4


def test_a_fifth_step_that_leans_on_the_kernel_is_refused_by_name_and_not_run(notebook: Notebook) -> None:
    notebook.step("load", STEPS["load"])
    notebook.run("secret = object()")
    with pytest.raises(UsageError, match=r"Step 'fifth' leans on 'secret', which only this kernel has"):
        notebook.step("fifth", "ran = True\nprint(secret)")
    assert "ran" not in notebook.shell.user_ns
    assert [s.name for s in notebook.pipelines.steps] == ["load"]


def test_a_failing_step_shows_its_own_traceback_and_stops_the_run(notebook: Notebook) -> None:
    notebook.run("limit = 100")
    notebook.step("load", "x = 5")
    notebook.step("check", "y = x\nassert y < limit, f'{y} is too many'\nz = y")
    notebook.step("after", "w = z + 1")
    with pytest.raises(UsageError, match=r"Step 'check' failed: AssertionError: 5 is too many") as caught:
        notebook.run("%pipeline run -p limit=3")
    assert "log.txt" in str(caught.value)


def test_failures_are_retried_as_told(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(f"marks = {str(tmp_path / 'marks')!r}\nfrom pathlib import Path")
    notebook.step(
        "flaky",
        "Path(marks).mkdir(exist_ok=True)\nn = len(list(Path(marks).iterdir()))\nPath(marks, str(n)).touch()\n"
        "assert n != 1, 'not yet'\ndone = n",
        "--retries 2 --no-cache",
    )
    (row,) = notebook.run("%pipeline run")
    assert (row["state"], row["attempts"]) == ("done", 2)


def test_a_step_that_takes_too_long_is_ended(notebook: Notebook) -> None:
    notebook.run("import time\npause = 0")
    notebook.step("slow", "time.sleep(pause)\nx = 1", "--timeout 1s")
    with pytest.raises(UsageError, match="took longer than 1 s"):
        notebook.run("%pipeline run -p pause=30")


def test_an_interrupted_run_says_what_was_done_and_goes_on_from_there(tmp_path: Path) -> None:
    """In a kernel, interrupted the way Jupyter does it, once the second step says that it runs."""
    from jupyter_client.manager import KernelManager

    home = tmp_path / "home"
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(
        env={k: v for k, v in os.environ.items() if not k.startswith("THEMISTO")} | {"THEMISTO_HOME": str(home)}
    )
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        for cell in [
            "%load_ext themisto\nimport time\npause = 0",
            "%%step load\nx = 5",
            "%%step slow\ntime.sleep(pause)\ny = x",
        ]:
            assert client.execute(cell, reply=True, timeout=60)["content"]["status"] == "ok"
        asked = client.execute("%pipeline run -p pause=600")
        _wait_for_step(home, "slow")
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == asked
        assert "Interrupted; load was done and kept" in reply["content"]["evalue"]
        again = client.execute(
            "rows = get_ipython().run_line_magic('pipeline', 'run')",
            user_expressions={"states": "[row['state'] for row in rows]"},
            reply=True,
            timeout=120,
        )
        assert again["content"]["user_expressions"]["states"]["data"]["text/plain"] == "['cached', 'done']"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _wait_for_step(home: Path, step: str) -> None:
    end = time.monotonic() + 120
    while not any('"running"' in note.read_text() for note in home.rglob(f"{step}.json")):
        assert time.monotonic() < end, f"{step} did not start"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%pipeline run -p row=3", "No step reads a constant 'row'. Did you mean rows?"),
        ("%pipeline run -p rows=many", "'many' is no int, which rows is"),
        ("%pipeline run -p rows", "is not KEY=VALUE"),
        ("%pipeline compile p.txt", "does not end in .yaml"),
        ("%pipeline compile no/such/folder/p.yaml", "There is no folder"),
        ("%pipeline submit", "THEMISTO_PIPELINES is not set"),
        ("%pipeline dance", "knows no"),
        ("%%step Not-A-Name\nx = 1", "The step's name 'Not-A-Name' will not do"),
        ("%%step a -o x:json\nx = 1", "only pickle is"),
        ("%%step a --timeout soon\nx = 1", "'soon' is no duration"),
    ],
)
def test_mistakes_are_told_in_a_sentence(notebook: Notebook, line: str, message: str) -> None:
    notebook.step("load", "x = rows")
    with pytest.raises(UsageError) as caught:
        notebook.run(line)
    assert message in str(caught.value)


def test_a_pipeline_without_steps_says_how_to_make_one(notebook: Notebook) -> None:
    with pytest.raises(UsageError, match="Mark a cell with %%step NAME"):
        notebook.run("%pipeline show")


def test_compile_and_export_write_files_that_hold_together(notebook: Notebook, tmp_path: Path) -> None:
    from kfp import components

    for name, body in STEPS.items():
        notebook.step(name, body)
    notebook.run(f"%pipeline compile {tmp_path / 'p.yaml'} --name flights")
    components.load_component_from_file(str(tmp_path / "p.yaml"))
    notebook.run(f"%pipeline export airflow {tmp_path / 'dag.py'}")
    ast.parse((tmp_path / "dag.py").read_text())
    shown = repr(notebook.run("%pipeline show"))
    assert "X ← features" in shown


def test_a_step_runs_in_another_orchestrators_container_as_the_dag_starts_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    store = tmp_path / "store"
    for code, parameters in (
        ({"name": "a", "source": "x = n * 2", "outputs": {"x": "a/x"}}, {"n": 21}),
        ({"name": "b", "source": "y = x + 1", "inputs": {"x": "a/x"}, "outputs": {"y": "b/y"}}, {}),
    ):
        env = {
            **os.environ,
            "THEMISTO_STEP": json.dumps(code),
            "THEMISTO_STEP_PARAMETERS": json.dumps(parameters),
            "THEMISTO_STORE": str(store),
        }
        subprocess.run([sys.executable, "-m", "themisto.pipelines.runner"], env=env, check=True, timeout=60)
    assert json.loads((store / "b" / "y" / "value.json").read_text()) == 43


class _Kubeflow(http.server.BaseHTTPRequestHandler):
    """Stands in for Kubeflow's API server, which is not to be had as a package: keeps what it is sent."""

    sent: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self._answer({"experiments": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sent.append((self.path, body))
        made = {"experiment_id": "e1"} if "experiments" in self.path else {"run_id": "r1", **body}
        self._answer(made)

    def _answer(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_submit_sends_what_kubeflows_own_models_accept(tmp_path: Path) -> None:
    import kfp_server_api

    _Kubeflow.sent = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Kubeflow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"kfp+http://127.0.0.1:{server.server_port}?namespace=team"
        pipelines = Pipelines(Settings(home=tmp_path, url=None, pipelines=address))
        cells = ["n = 1"]
        pipelines.record(pipelines.plan("a", "x = n", cells=cells), {"x": 1})
        run = pipelines.submit({"n": "3"}, name="p")
    finally:
        server.shutdown()
        server.server_close()
    assert run.id == "r1"
    (_, experiment), (_, body) = _Kubeflow.sent
    assert experiment["namespace"] == "team"
    assert body["runtime_config"]["parameters"] == {"n": 3}
    assert body["pipeline_spec"]["pipelineInfo"]["name"] == "p"
    assert set(body) <= set(kfp_server_api.V2beta1Run.attribute_map.values())


def test_kubeflow_down_is_one_sentence(tmp_path: Path, free_base: Any) -> None:
    from themisto.errors import Unavailable

    pipelines = Pipelines(Settings(home=tmp_path, url=None, pipelines=f"kfp+http://127.0.0.1:{free_base()}"))
    pipelines.record(pipelines.plan("a", "x = 1"), {"x": 1})
    began = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be reached"):
        pipelines.submit()
    assert time.monotonic() - began < 10
