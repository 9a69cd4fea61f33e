"""What flows between steps, what they carry with them, and what is refused by name."""

from __future__ import annotations

import pytest

from themisto.errors import Invalid
from themisto.pipelines.inference import check, infer
from themisto.pipelines.models import Output, Pipeline, Step
from themisto.pipelines.notebook import Notebook


def step(name: str, source: str, *, at: int = 99, **options: object) -> Step:
    return Step.model_validate({"name": name, "source": source, "at": at, **options})


def pipeline(cells: list[str], *steps: Step) -> Pipeline:
    return infer("p", steps, Notebook(cells))


def test_inputs_come_from_the_last_earlier_step_that_wrote_the_name() -> None:
    found = pipeline([], step("a", "x = 1"), step("b", "x = x + 1"), step("c", "y = x"))
    assert [dict(t.inputs) for t in found.tasks] == [{}, {"x": "a"}, {"x": "b"}]
    assert [set(t.outputs) for t in found.tasks[:2]] == [{"x"}, {"x"}]


def test_a_frame_changed_in_place_is_handed_on_by_the_step_that_changed_it() -> None:
    found = pipeline([], step("a", "df = {}"), step("b", "df['x'] = 1"), step("c", "print(df)"))
    assert found.tasks[2].inputs == {"df": "b"}


def test_what_no_step_reads_is_not_an_output_except_plain_results_of_the_last() -> None:
    found = pipeline([], step("a", "x = 1\nscratch = object()"), step("b", "auc = x / 2", results=("auc",)))
    assert set(found.tasks[0].outputs) == {"x"}
    assert set(found.tasks[1].outputs) == {"auc"}


def test_definitions_are_carried_with_what_they_need_in_the_order_they_need_it() -> None:
    cells = [
        "import numpy as np, pandas as pd",
        "RATE = 0.5\nBASE = RATE * 2",
        "def inner(v):\n    # kept\n    return np.sqrt(v) * BASE",
        "class Model:\n    def fit(self, v):\n        return inner(v)",
    ]
    task = pipeline(cells, step("a", "m = Model().fit(4)")).tasks[0]
    assert "import pandas" not in task.definitions
    assert "# kept" in task.definitions
    assert task.definitions.index("BASE = RATE * 2") < task.definitions.index("def inner")
    assert task.definitions.index("def inner") < task.definitions.index("class Model")
    assert task.parameters == ("RATE",)


def test_plain_constants_become_parameters() -> None:
    found = pipeline(
        ["lr = 0.1\nrounds = -3\nname = 'x'\non = True\nmany = [1]"], step("a", "z = (lr, rounds, name, on, many)")
    )
    assert found.parameters == {"lr": 0.1, "rounds": -3, "name": "x", "on": True}
    assert found.tasks[0].definitions == "many = [1]"


def test_a_definition_inside_a_step_is_carried_to_the_next_one() -> None:
    cells = [
        "get_ipython().run_cell_magic('step', 'a', 'import math\\ndef half(v): return math.floor(v / 2)\\nx = 4\\n')"
    ]
    found = pipeline(
        cells, step("a", "import math\ndef half(v): return math.floor(v / 2)\nx = 4"), step("b", "y = half(x)")
    )
    assert "def half" in found.tasks[1].definitions
    assert "import math" in found.tasks[1].definitions
    assert found.tasks[1].inputs == {"x": "a"}


@pytest.mark.parametrize(
    ("cells", "source"),
    [
        (["secret = open('x')"], "y = secret.read()"),
        (["secret = compute()"], "y = secret"),
        (["secret = [1]", "secret.append(2)"], "y = secret"),
        (["secret = 1", "secret += 1"], "y = secret"),
        (["for secret in rows: pass"], "y = secret"),
        ([], "y = secret"),
    ],
)
def test_a_name_that_only_the_kernel_has_is_refused_by_that_name(cells: list[str], source: str) -> None:
    with pytest.raises(Invalid, match=r"Step 'e' leans on 'secret', which only this kernel has\. Make it"):
        check(step("e", source), [], Notebook(cells))


def test_a_kernel_name_behind_a_function_is_refused_with_the_way_to_it() -> None:
    cells = ["conn = connect()", "def rows(): return conn.all()", "def count(): return len(rows())"]
    with pytest.raises(Invalid, match=r"'conn' \(through 'count' -> 'rows'\)"):
        check(step("e", "n = count()"), [], Notebook(cells))


def test_the_constant_as_of_the_step_counts_when_the_name_is_reused_later() -> None:
    cells = ["n = 5", "print('step')", "n = len(rows)"]
    assert pipeline(cells, step("a", "x = n", at=2)).parameters == {"n": 5}


@pytest.mark.parametrize("source", ["!ls\nx = 1", "%time x = 1", "x = get_ipython()"])
def test_notebook_syntax_in_a_step_is_refused(source: str) -> None:
    with pytest.raises(Invalid, match="a pipeline has no notebook"):
        check(step("e", source), [], Notebook([]))


def test_what_is_not_python_is_refused_with_its_line() -> None:
    with pytest.raises(Invalid, match="line 2"):
        check(step("e", "x = 1\nx = = 2"), [], Notebook([]))


def test_told_inputs_must_come_from_an_earlier_step() -> None:
    with pytest.raises(Invalid, match="No step before 'b' hands on 'z'"):
        check(step("b", "y = z", inputs=("z",)), [step("a", "x = 1")], Notebook([]))


def test_told_outputs_withhold_the_others() -> None:
    with pytest.raises(Invalid, match=r"which step 'a' does not hand on\. Add -o y to step 'a'"):
        pipeline([], step("a", "x = 1\ny = 2", outputs=(Output(name="x"),)), step("b", "z = y"))


def test_a_value_that_cannot_travel_is_refused_unless_a_pickle_was_asked_for() -> None:
    made = step("a", "gen = make()", formats={"gen": None})
    cells = ["def make(): return object()"]
    with pytest.raises(Invalid, match="say -o gen:pickle"):
        pipeline(cells, made, step("b", "x = gen"))
    asked = made.model_copy(update={"outputs": (Output(name="gen", format="pickle"),)})
    assert pipeline(cells, asked, step("b", "x = gen")).tasks[0].outputs == {"gen": "pickle"}


def test_an_import_with_a_fallback_is_carried_whole() -> None:
    cells = ["try:\n    import ujson as json\nexcept ImportError:\n    import json"]
    assert "except ImportError" in pipeline(cells, step("a", "x = json.dumps(1)")).tasks[0].definitions


def test_functions_that_call_each_other_are_both_carried() -> None:
    cells = ["def even(n): return n == 0 or odd(n - 1)", "def odd(n): return n != 0 and even(n - 1)"]
    definitions = pipeline(cells, step("a", "x = even(4)")).tasks[0].definitions
    assert "def even" in definitions
    assert "def odd" in definitions
