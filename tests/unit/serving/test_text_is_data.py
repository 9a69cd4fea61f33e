"""What people write is data: in HTML, on a magic's line, in the shell command that a deploy shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from IPython.core.error import UsageError

from themisto.serving import display, observing_display, watching
from themisto.serving.batch import Done
from themisto.serving.magic import DeployMagics
from themisto.serving.models import Artifact, Column, Endpoint, EndpointCaller, Golden, Release, Signature
from themisto.serving.progress import Stages
from themisto.serving.replay import Replayed
from themisto.serving.rollout import Rollout
from themisto.types import new_ulid, utcnow

ROOT = Path(__file__).parents[3]
EVIL = "\"'><img src=x onerror=alert(1)><script>alert(1)</script>"
TAG = re.compile(r"<(img|script)", re.IGNORECASE)


def release():
    column = Column(name=EVIL, dtype="FP32")
    return Release.model_construct(
        **dict(
            Release(
                id=new_ulid(), endpoint="credit", number=1, author="scientist", created_at=utcnow(), hash="0" * 64,
                group="data-science", artifact=Artifact(kind="onnx", sha256="0" * 64, size_bytes=1),
                signature=Signature(inputs=(column,), outputs=(column,)),
                golden=Golden(inputs={EVIL: [1]}, outputs={EVIL: [1]}),
                run_id=EVIL, model_version=EVIL, feature_service=EVIL,
            )
        )
    )  # fmt: skip


def endpoint():
    now = utcnow()
    rollout = Rollout(
        id=new_ulid(), endpoint="credit", release=1, strategy="canary", weight_pct=5, state="running", stage=EVIL,
        message=EVIL, requested_by="scientist", created_at=now, updated_at=now, step_since=now, review_url=EVIL,
    )  # fmt: skip
    return Endpoint(name="credit", group="data-science", tier="dev", rollout=rollout, updated_at=now)


def stages():
    class Board:
        def changed(self, _):
            pass

    shown = Stages(EVIL, Board())
    with shown.stage(EVIL) as stage:
        stage.note = EVIL
    return shown


def difference():
    sections = ("metrics", "gates", "data", "features", "parameters", "environment", "serving", "model")
    changes = {section: [{"name": EVIL, "before": EVIL, "after": [EVIL]}] for section in sections}
    return display.Difference({"endpoint": EVIL, "stable": 1, "candidate": EVIL, "code": EVIL, **changes})


SHOWN = {
    "endpoint": lambda: display.endpoint_card(endpoint()),
    "releases": lambda: display.releases([release()]),
    "difference": difference,
    "stages": lambda: watching._Shown(stages()),
    "review link": lambda: display.ReviewLink(EVIL, EVIL),
    "replayed": lambda: display.replayed([Replayed(release=EVIL, rows=1, agrees=False, detail=EVIL, p50_ms=1.0)]),
    "callers": lambda: display.callers(
        [EndpointCaller(caller=EVIL, endpoint="credit", version=1, count=1, last=utcnow())], 30
    ),
    "exported log": lambda: observing_display.exported({"file": EVIL, "rows": 1, "requests": 1}),
    "labels": lambda: observing_display.labelled(EVIL, {EVIL: 1}),
    "batch": lambda: observing_display.batch_card(
        Done(endpoint=EVIL, release=EVIL, folder=EVIL, rows=1, parts=1, kept=1, seconds=1.0)
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_display_shows_markup_as_text(name):
    shown = SHOWN[name]()
    html = shown._repr_html_()
    assert "&lt;img" in html
    assert not TAG.search(html)


def test_the_panel_makes_no_markup_of_text():
    """React escapes what it renders; these are the ways around it."""
    ways = re.compile(r"dangerouslySetInnerHTML|innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
    sources = [file for file in (ROOT / "lab_extension" / "src").rglob("*.ts*") if file.name != "generated.ts"]
    assert sources
    assert [str(file) for file in sources if ways.search(file.read_text())] == []


@pytest.fixture
def magics(shell, serving, numbers):
    class Bench:
        def __init__(self):
            self.serving, self.control = serving, serving._control

    shell.user_ns.update(X_valid=numbers)
    return DeployMagics(shell, Bench())


@pytest.mark.parametrize(
    "name",
    ["credit;touch made", "$(touch made)", "`touch made`", "credit\ntouch made", "credit|touch made", "../credit"],
)
@pytest.mark.parametrize("verb", ["status", "promote", "rollback", "retire", "releases", "diff"])
def test_a_magics_argument_reaches_no_shell(magics, tmp_path, verb, name):
    with pytest.raises(UsageError):
        magics.deploy(f"{verb} {shlex.quote(name)}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--batch", "--slo", "--canary", "--profile", "--default", "--steps", "--tier"])
def test_an_options_value_reaches_no_shell(magics, tmp_path, option):
    with pytest.raises(UsageError):
        magics.deploy(f"credit --sample X_valid {option} '$(touch made);`touch made`'", "None")
    assert list(tmp_path.iterdir()) == []


def test_the_shown_curl_is_one_command_whatever_the_columns_are_called(magics, shell, numbers):
    evil = "x'; touch made; echo '$(touch made)"
    shell.user_ns["X_evil"] = numbers[["dist"]].rename(columns={"dist": evil})
    cell = f"def double(frame):\n    return frame[{evil!r}] * 2\ndouble"
    shown = magics.deploy("evil --sample X_evil --replace", cell)
    command, *arguments = shlex.split(shown.facts["curl"])
    assert command == "curl"
    assert evil in arguments[-1]
    assert not any(word in arguments for word in (";", "touch", "made;"))
