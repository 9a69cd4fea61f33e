"""`%%deploy` and `%deploy` in a real shell: one line in, one display or one sentence out."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from IPython.core.error import UsageError

from themisto.serving.display import Deployment
from themisto.serving.magic import DeployMagics
from themisto.serving.verdict import StepVerdict
from themisto.types import utcnow


class Bench:
    """As much of a workbench as the magic asks for."""

    def __init__(self, serving, control):
        self.serving = serving
        self.control = control


@pytest.fixture
def magics(shell, serving, booster, numbers):
    shell.user_ns.update(model=booster, X_valid=numbers, _hidden=numbers, X_other=3)
    return DeployMagics(shell, Bench(serving, serving._control))


def test_the_cells_last_value_is_what_is_deployed(magics, capsys):
    shown = magics.deploy("credit --sample X_valid --replace", "x = 1\nmodel")
    assert isinstance(shown, Deployment)
    assert str(shown.release) == "credit@1"
    text = repr(shown)
    assert 'themisto.endpoint("credit").predict(df)' in text
    assert "curl -H" in text
    assert capsys.readouterr().out.count("✓") == 5
    assert shown.release.cell == "x = 1\nmodel"


def test_a_sample_made_in_the_cell_itself(magics):
    shown = magics.deploy("fresh --sample X_fresh --dry-run", "X_fresh = X_valid.head(50)\nmodel")
    assert shown.outcome.rows == 50


@pytest.mark.parametrize(
    ("line", "cell", "says"),
    [
        ("credit", "model", "--sample"),
        ("credit --sample X_vaild", "model", "no variable 'X_vaild'.*Did you mean X_valid"),
        ("credit --sample X_other", "model", "not a DataFrame"),
        ("credit --sample X_valid", "x = model", "no last value"),
        ("credit --sample X_valid --tier test", "model", "knows no"),
        ("credit --sample X_valid --default 0.5", "model", "no JSON object"),
        ("credit --sample X_valid --default {", "model", "no JSON"),
        ("""credit --sample X_valid --default '{"other": 1}'""", "model", "differ in label, other"),
        ("credit --sample X_valid --rule nothere", "model", "no variable 'nothere'"),
        ("credit --sample X_valid --rule X_other", "model", "no function"),
        ("credit --sample X_valid --fallback-after soon", "model", "no time"),
        ("credit --sample X_valid --personal hour=forget", "model", "name=hash,email=drop"),
        ("credit --sample X_valid --personal hours=hash", "model", "no column hours"),
        ("credit --sample X_valid --canary five", "model", "no percentage"),
        ("credit --sample X_valid --canary 5 --shadow", "model", "not allowed with"),
        ("credit --sample X_valid --steps 5,3", "model", "no steps"),
        ("credit --sample X_valid --steps 5,ten", "model", "no steps"),
        ("credit --sample X_valid --steps ''", "model", "no steps"),
        ("credit --sample X_valid --steps 5,30 --shadow", "model", "not allowed with"),
        ("credit --sample X_valid --dwell soon", "model", "no length of time"),
        ("credit --sample X_valid --dwell 400d", "model", "no way to move traffic"),
        ("credit --sample X_valid --tolerate error=1%", "model", "nothing about what is tolerated"),
        ("credit --sample X_valid --tolerate errors=nan%", "model", "nothing about what is tolerated"),
        ("credit --sample X_valid --profile cpu-smal", "model", "Did you mean cpu-small"),
        ("credit --sample X_valid --features nothing", "model", "no feature service 'nothing'"),
        ("'credit;$(x)`y`' --sample X_valid", "model", "no endpoint name"),
        ("credit --sample 'X_valid", "model", "Close the quote"),
        ("credit.v1 --sample X_valid", "model", "no endpoint name"),
        ("credit.v2.v3 --sample X_valid", "model", "no endpoint name"),
    ],
)
def test_mistakes_are_one_usage_error(magics, plane, line, cell, says):
    with pytest.raises(UsageError, match=says):
        magics.deploy(line, cell)
    assert plane.releases == {}


def test_a_new_version_is_asked_for_on_the_line(magics, shell, numbers, late):
    import lightgbm as lgb

    magics.deploy("credit --sample X_valid --replace", "model")
    shell.user_ns["narrow"] = lgb.LGBMClassifier(n_estimators=2, verbose=-1).fit(numbers[["hour"]], late)
    with pytest.raises(UsageError, match=r"break those who call credit@1.*--new-version"):
        magics.deploy("credit --sample X_valid", "narrow")
    shown = magics.deploy("credit --sample X_valid --new-version", "narrow")
    assert str(shown.release) == "credit.v2@1"
    assert 'themisto.endpoint("credit.v2")' in repr(shown)


def test_arguments_are_checked_before_the_cell_is_run(magics, shell):
    with pytest.raises(UsageError):
        magics.deploy("credit --sample X_valid --profile nothing", "ran = True\nmodel")
    assert "ran" not in shell.user_ns


def test_labels_by_a_column_that_the_log_covers_are_refused(magics, shell):
    magics.deploy("credit --sample X_valid --personal hour=hash --replace", "model")
    shell.user_ns["truth"] = pd.DataFrame({"hour": [7, 8], "label": [0, 1]})
    with pytest.raises(UsageError, match=r"are personal.*Post the labels by request_id"):
        magics.deploy("label credit truth --on hour")


def test_an_error_in_the_cell_travels_as_it_is(magics):
    with pytest.raises(ZeroDivisionError):
        magics.deploy("credit --sample X_valid", "1 / 0\nmodel")


@pytest.mark.parametrize(
    ("option", "strategy", "weight"),
    [
        ("", "canary", 5),
        ("--canary 20", "canary", 20),
        ("--ab 50%", "ab", 50),
        ("--shadow", "shadow", 0),
        ("--replace", "replace", 100),
    ],
)
def test_strategies(magics, option, strategy, weight):
    shown = magics.deploy(f"credit --sample X_valid --dry-run {option}", "model")
    rollout = shown.outcome.request.rollout
    assert (rollout.strategy, rollout.weight_pct) == (strategy, weight)


@pytest.mark.parametrize(
    ("option", "steps", "manual", "dwell_s"),
    [
        ("", (5, 30, 100), False, 60),
        ("--canary 30", (30, 100), False, 60),
        ("--canary 100", (100,), False, 60),
        ("--steps 1,10,50,100 --dwell 1h", (1, 10, 50, 100), False, 3600),
        ("--steps 20 --manual", (20, 100), True, 60),
        ("--ab 50", (), False, 60),
        ("--shadow", (), False, 60),
    ],
)
def test_steps(magics, option, steps, manual, dwell_s):
    rollout = magics.deploy(f"credit --sample X_valid --dry-run {option}", "model").outcome.request.rollout
    assert (rollout.steps, rollout.manual, rollout.dwell_s) == (steps, manual, dwell_s)


def test_what_is_tolerated(magics):
    line = "credit --sample X_valid --dry-run --tolerate errors=0.5% --tolerate outputs=20%"
    tolerated = magics.deploy(line, "model").outcome.request.rollout.tolerated
    assert (tolerated.errors, tolerated.slow, tolerated.outputs) == (0.005, 0.05, 0.2)


def test_status_shows_step_and_verdict(magics, plane):
    magics.deploy("credit --sample X_valid", "model")
    found = plane.endpoints["credit"]
    verdict = StepVerdict(finding="open", words="errors: 0 of 41 against 0 of 800 at stable", at=utcnow())
    running = {"state": "running", "steps": (5, 30, 100), "step": 1, "step_since": utcnow(), "verdict": verdict}
    plane.set("credit", rollout=found.rollout.model_copy(update=running))
    shown = repr(magics.deploy("status credit"))
    assert "5 % → [30 %] → 100 %, since 20" in shown
    assert "not decided yet: errors: 0 of 41 against 0 of 800 at stable" in shown


def test_a_function_of_the_cell_is_deployed(magics):
    cell = "import numpy as np\nSCALE = 3\ndef far(df):\n    return np.log1p(df.dist.abs()) * SCALE\nfar"
    shown = magics.deploy("far --sample X_valid", cell)
    assert shown.release.artifact.kind == "python"


def test_line_verbs(magics, plane):
    magics.deploy("credit --sample X_valid", "model")
    assert "credit@1" in repr(magics.deploy("status"))
    assert "all to credit@1" in repr(magics.deploy("status credit"))
    assert "yes" in repr(magics.deploy("test credit"))
    assert "models:/credit/" in repr(magics.deploy("releases credit"))
    with pytest.raises(UsageError, match="Nothing of 'credit' waits"):
        magics.deploy("approve credit")
    assert "nothing answers" in repr(magics.deploy("retire credit"))


def test_a_rollout_by_hand_shows_its_steps_and_who_takes_the_next(magics, late):
    magics.deploy("credit --sample X_valid", "model")
    magics.shell.user_ns["late"] = late
    cell = "import lightgbm\nlightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X_valid, late)"
    shown = magics.deploy("credit --sample X_valid --steps 5,30,100 --manual", cell)
    assert "By hand: %deploy step credit, %deploy promote credit, or %deploy rollback credit." in repr(shown)
    stepped = repr(magics.deploy("step credit"))
    assert "5 % → [30 %] → 100 %" in stepped
    assert "a person takes the next step" in stepped
    assert "takes the next step" not in repr(magics.deploy("resume credit"))
    assert "paused by scientist: odd scores" in repr(magics.deploy('pause credit --reason "odd scores"'))


@pytest.mark.parametrize("line", ["", "nothing", "status a b", "promote", "step", "pause", "resume"])
def test_unknown_verbs_are_told(magics, line):
    with pytest.raises(UsageError):
        magics.deploy(line)


def test_displays_escape_what_people_wrote(magics):
    shown = magics.deploy("credit --sample X_valid --dry-run", "model")
    shown.facts["evil"] = "<script>alert(1)</script>"
    assert "<script>" not in shown._repr_html_()


@pytest.mark.parametrize(
    ("words", "has", "has_not"),
    [
        ([""], {"status", "credit"}, {"--sample"}),
        (["promote", ""], {"credit"}, {"status"}),
        (["credit", "--sample", "X"], {"X_valid"}, {"X_other", "_hidden", "model"}),
        (["credit", "--tier", ""], {"dev", "prod"}, set()),
        (["credit", "--tolerate", ""], {"errors=1%"}, set()),
        (["credit", "--"], {"--sample", "--canary", "--steps", "--manual", "--dry-run"}, {"status"}),
    ],
)
def test_completion(magics, words, has, has_not):
    magics.deploy("credit --sample X_valid", "model")
    magics.wb.serving._names = ([], -1e9)
    found = set(magics.complete("deploy", words))
    assert has <= found
    assert not has_not & found


@pytest.fixture
def observed(magics, plane, tmp_path):
    """`credit` with three requests in the log, which a shadow answered too."""
    magics.deploy("credit --sample X_valid --replace", "model")
    lines = []
    for number in range(3):
        line = {
            "time": datetime(2026, 11, 1, 9, number, tzinfo=UTC),
            "request_id": f"r{number}",
            "endpoint": "credit",
            "release": "credit@1",
            "key": f"k{number}",
            "status": 200,
            "latency_ms": 1.0,
            "inputs": f'{{"hour": [{number}], "dist": [1.5], "temp": [2.5]}}',
            "outputs": '{"label": [1], "probabilities": [0.4, 0.6]}',
        }
        lines += [
            line | {"shadow": False},
            line
            | {"shadow": True, "release": "credit@2", "outputs": line["outputs"].replace("[1]", f"[{number % 2}]")},
        ]
    plane.log = tmp_path / "log"
    (plane.log / "2026-11-01T09").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(lines), plane.log / "2026-11-01T09" / "part.parquet")
    return magics


def test_a_log_with_gaps_says_so(observed, plane, capsys):
    observed.deploy("log credit --limit 2")
    assert "gaps" not in capsys.readouterr().out
    plane.losses = plane.losses.plus(dropped_lines=3)
    observed.deploy("log credit --limit 2")
    assert "3 lines given up" in capsys.readouterr().out


def test_log_is_a_frame_or_a_file(observed, tmp_path):
    found = observed.deploy("log credit --limit 2")
    assert found.hour.tolist() == [2, 1]
    assert found.probabilities.tolist() == [[0.4, 0.6]] * 2
    shown = observed.deploy(f"log credit --to {tmp_path / 'log.parquet'}")
    assert "requests  3" in repr(shown)
    assert pd.read_parquet(tmp_path / "log.parquet").hour.tolist() == [2, 1, 0]


def test_shadow_says_a_line_and_is_a_frame(observed, capsys):
    found = observed.deploy("shadow credit")
    assert found.agrees.tolist() == [False, False, True]
    assert "33.3% agree" in capsys.readouterr().out


def test_batch_line(observed, numbers, tmp_path, capsys):
    numbers.head(30).to_parquet(tmp_path / "in.parquet")
    shown = observed.deploy(f"batch credit --input {tmp_path}/in.parquet --output {tmp_path}/out")
    assert "credit@1" in repr(shown)
    assert "30 rows in 1 parts" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "out")) == 30


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("log credit --limit 0", "no number of requests"),
        ("log credit --since yesterday", "'yesterday' is no time"),
        ("log nothing", "no endpoint 'nothing'"),
        ("label credit nothing", "no variable 'nothing'"),
        ("label credit", "labels|VAR"),
        ("label credit X_other", "not a int"),
        ("ab credit", "--metric"),
        ("ab credit --metric X_vaild", "Did you mean X_valid"),
        ("ab credit --metric X_valid", "must both have answered"),
        ("bench credit --slo p98=1s", "no service level"),
        ("bench credit --seconds 1", "5 to 600 seconds"),
        ("batch credit --input /nowhere/x.csv --output out", "no file at"),
        ("batch credit --input x", "--output"),
    ],
)
def test_mistakes_in_the_looking_verbs_are_one_usage_error(observed, line, says):
    with pytest.raises(UsageError, match=says):
        observed.deploy(line)
