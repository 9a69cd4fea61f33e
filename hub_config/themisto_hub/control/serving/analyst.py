"""Analyst: looks at every running rollout's new answers and has its steps taken, forward or back.

What it counted lives in memory only, for the prediction log is the memory: killed at any point, the next
look reads the step's answers again and comes to the same counts.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path

from themisto.errors import ThemistoError
from themisto.serving.verdict import StepVerdict
from themisto_hub.control.context import Control
from themisto_hub.control.serving.analysis import judge
from themisto_hub.control.serving.answers import AnswerLog, Rewritten
from themisto_hub.control.serving.steps import PATIENCE, Running, Steps
from themisto_hub.control.serving.votes import BASELINE, Votes, watched
from themisto_hub.control.tracing import rollout_step

__all__ = ["Analyst"]

_log = logging.getLogger(__name__)
_DAY = timedelta(days=1)
_BASELINE_ROWS = 2000
_TRIES = 3
_Key = tuple[str, int, datetime, int]


class Analyst:
    """One for all rollouts; `look` is called again and again, by one thread."""

    def __init__(self, control: Control, steps: Steps) -> None:
        self._control = control
        self._steps = steps
        self._folder = control.settings.folder("gateway") / "predictions"
        self._evidence: dict[_Key, _Evidence] = {}
        self._unread: dict[_Key, int] = {}

    def look(self) -> None:
        """Every running rollout once. One that cannot be judged does not keep the others waiting."""
        now = self._control.clock()
        running = self._steps.running()
        keys = {_key(one, _day(one, now)) for one in running}
        self._evidence = {key: evidence for key, evidence in self._evidence.items() if key in keys}
        self._unread = {key: tries for key, tries in self._unread.items() if key in keys}
        for one in running:
            try:
                self._judge(one, now)
            except ThemistoError:
                raise  # the database: nothing more can be done now
            except Exception:  # noqa: BLE001 - whatever a log holds, the other rollouts are judged
                _log.exception("%s cannot be judged; it is tried again", one.candidate)

    def _judge(self, one: Running, now: datetime) -> None:
        import duckdb

        day = _day(one, now)
        key = _key(one, day)
        if key not in self._evidence:
            self._evidence[key] = _Evidence(self._folder, one, day)
        try:
            votes = self._evidence[key].taken()
        except Rewritten:
            del self._evidence[key]  # counted anew, by the next look
            return
        except (OSError, duckdb.Error) as error:
            del self._evidence[key]
            self._unread[key] = self._unread.get(key, 0) + 1
            if self._unread[key] >= _TRIES:  # an hour's files may have become one just now
                _log.warning("%s: the prediction log cannot be read: %s", one.candidate, error)
                words = "the prediction log cannot be read, so nothing is known and nothing moves"
                self._act(one, StepVerdict(finding="open", words=words, at=now), now)
            return
        self._unread.pop(key, None)
        self._act(one, judge(votes.counts(), one.tolerated, steps=one.judged_steps, day=day, at=now), now)

    def _act(self, one: Running, verdict: StepVerdict, now: datetime) -> None:
        if verdict.finding == "worse" and one.strategy != "shadow":
            _log.warning("%s goes back: %s", one.candidate, verdict.words)
            with rollout_step("back", one.rollout, one.candidate):
                self._steps.back(one, verdict)
        elif verdict.finding == "fine" and one.moves and now - one.since >= one.dwell:
            _log.info("%s passes step %d: %s", one.candidate, one.step + 1, verdict.words)
            with rollout_step("forward", one.rollout, one.candidate):
                self._steps.forward(one, verdict)
        else:
            if verdict.finding == "open" and one.moves and now - one.since >= PATIENCE:
                self._steps.ask(one, verdict)
            self._steps.show(one, verdict)


class _Evidence:
    """The counts of one step, or of one day of a rollout that stays, and the place in the log they come from."""

    def __init__(self, folder: Path, one: Running, day: int) -> None:
        self._log = AnswerLog(
            folder,
            one.candidate.endpoint,
            candidate=str(one.candidate),
            stable=str(one.stable),
            since=one.since + day * _DAY,
        )
        # Two variants are tried because their outputs differ; how they do is the experiment's question.
        outputs = [] if one.strategy == "ab" else watched(one.candidate.signature, one.stable.signature)
        self._votes = Votes(outputs, slo_p99_ms=_milliseconds(one.candidate.slo.get("p99")))
        self._begun = False

    def taken(self) -> Votes:
        """The counts, with what is new in the log."""
        if not self._begun:
            earlier = self._log.before(_BASELINE_ROWS)
            if len(earlier) >= BASELINE:
                self._votes.take_baseline(earlier)
            self._begun = True
        self._votes.count(self._log.new())
        return self._votes


def _key(one: Running, day: int) -> _Key:
    return one.rollout, one.step, one.since, day


def _day(one: Running, now: datetime) -> int:
    """A rollout that stays (by hand, A/B, shadow) is judged day by day; a step that ends by itself is judged whole."""
    return 0 if one.moves else max((now - one.since) // _DAY, 0)


def _milliseconds(text: str | None) -> float:
    return float(text.removesuffix("ms")) if text else 0.0
