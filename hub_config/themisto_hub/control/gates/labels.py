"""Labels: gates decided again once the truth about a release's own answers is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving import judging
from themisto.serving.gates import MIN_SLICE, GateResult, Quality, Verdict, parse
from themisto.serving.models import Release
from themisto_hub.control.context import Control
from themisto_hub.control.gates.keeper import is_gated
from themisto_hub.control.gates.records import add_results, pinned
from themisto_hub.control.gates.retraining import Retrainings
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.moves import RECONCILER, end_rollout
from themisto_hub.control.serving.records import (
    active_rollout,
    endpoint_row,
    release_model,
    release_row,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from sqlalchemy.orm import Session

    from themisto.serving.metrics import Answered
    from themisto_hub.control.serving.tables import EndpointRow

__all__ = ["LabelJudge"]


class LabelJudge:
    """A breach takes a running rollout back; of a stable release it is told, and may start retraining."""

    def __init__(self, control: Control, changes: Changes, retrainings: Retrainings) -> None:
        self._control = control
        self._changes = changes
        self._retrainings = retrainings

    def judge(
        self,
        endpoint: str,
        number: int,
        answers: pa.Table | pd.DataFrame,
        champion: pa.Table | pd.DataFrame | None = None,
        *,
        truth: str = "label",
    ) -> tuple[GateResult, ...]:
        """Decide the release's gates, and those pinned, on its labelled answers, and act on a breach.

        answers: a row an answer, with the column `truth`, a column for each output of the signature
            (`outputs.NAME` where the name is taken; probabilities as lists) and the gates' `by` columns,
            those that are known. Rows without truth or without an output are left out.
        champion: the same of the stable release, from the same days; without it, gates against the
            champion are skipped.
        A gate whose measure is not defined yet (too few rows, one class so far) is skipped, not breached;
        so is one whose miss may be chance on so few rows: labels are looked at again and again.

        Raises NotFound, Invalid where a column is missing.
        """
        with self._control.db.read() as session:
            release = release_model(release_row(session, endpoint, number))
            stable = endpoint_row(session, endpoint).stable
            theirs = release_model(release_row(session, endpoint, stable)) if stable not in (None, number) else None
            asked = [(release.quality, False), (pinned(session, endpoint), True)]
        results = tuple(
            result
            for quality, is_pinned in asked
            if quality is not None
            for result in self._judge(
                release,
                quality,
                _answered(answers, release, quality, truth),
                theirs,
                _answered(champion, theirs, quality, truth) if champion is not None and theirs is not None else None,
                is_pinned=is_pinned,
            )
        )
        if results:
            self._record(endpoint, number, results)
        return results

    def posted(self, endpoint: str, labelled: Callable[[str, int], pa.Table]) -> tuple[GateResult, ...]:
        """Labels of the endpoint were posted: judge the release that runs beside stable, then stable itself.

        labelled: endpoint and number of a release to its labelled answers, a table that may be empty.
        Raises what `judge` and `labelled` raise.
        """
        with self._control.db.read() as session:
            row = endpoint_row(session, endpoint)
            stable = row.stable
            numbers = [number for number in (row.candidate, stable) if number is not None]
            gated = [n for n in numbers if is_gated(session, release_model(release_row(session, endpoint, n)))]
        if not gated:
            return ()
        known = {number: labelled(endpoint, number) for number in numbers}
        theirs = known.get(stable) if stable is not None else None
        results: list[GateResult] = []
        for number in gated:
            if known[number].num_rows:
                against = theirs if number != stable and theirs is not None and theirs.num_rows else None
                results.extend(self.judge(endpoint, number, known[number], against))
        return tuple(results)

    def _judge(
        self,
        release: Release,
        quality: Quality,
        ours: Answered,
        champion: Release | None,
        theirs: Answered | None,
        *,
        is_pinned: bool,
    ) -> list[GateResult]:
        why = "no labelled answers of the champion" if champion is not None else "it is stable: nothing to compare with"
        verdicts = judging.judge(quality.gates, ours, theirs, no_champion=why)
        return [
            GateResult(
                **_decided(verdict, quality, ours, theirs).model_dump(),
                release=release.number,
                champion_release=champion.number if champion and verdict.champion is not None else None,
                source="labels",
                pinned=is_pinned,
                holdout_sha256=None,
                rows=len(ours),
                at=self._control.clock(),
            )
            for verdict in verdicts
        ]

    def _record(self, name: str, number: int, results: tuple[GateResult, ...]) -> None:
        breached = [one for one in results if one.passed is False]
        why = "; ".join(one.says for one in breached)
        with self._control.db.write() as session:
            endpoint = endpoint_row(session, name, lock=True)
            rollout = active_rollout(session, name)
            running = rollout if rollout and (rollout.release, rollout.state) == (number, "running") else None
            add_results(session, name, running.id if running else None, results)
            self._audit(session, endpoint, "gate.judge", f"release/{name}@{number}", results)
            if breached and running is not None:
                end_rollout(self._control, endpoint, running, "rolled_back", f"on labels posted since: {why}")
                self._audit(session, endpoint, "rollout.breach", f"rollout/{running.id}", breached)
            elif breached and endpoint.stable == number:
                self._audit(session, endpoint, "gate.breached", f"release/{name}@{number}", breached)
                self._retrainings.start(session, endpoint, "gate", why)
        self._changes.tell(name)

    def _audit(self, session: Session, endpoint: EndpointRow, action: str, object: str, results: Any) -> None:
        self._control.audit.append(
            session,
            actor=RECONCILER,
            action=action,
            object=object,
            group=endpoint.group_name,
            after={
                "release": f"{endpoint.name}@{results[0].release}",
                "stable": endpoint.stable,
                "candidate": endpoint.candidate,
                "message": "; ".join(one.says for one in results),
                "gates": [one.model_dump(mode="json", exclude={"slices", "at"}) for one in results],
            },
        )


def _answered(answers: pa.Table | pd.DataFrame, release: Release | None, quality: Quality, truth: str) -> Answered:
    import pandas as pd

    from themisto.serving.frame import pick, tensors
    from themisto.serving.holdout import answered

    assert release is not None
    frame: pd.DataFrame = answers if isinstance(answers, pd.DataFrame) else answers.to_pandas()
    outputs = release.signature.outputs
    have = {str(column) for column in frame.columns}
    named = {c.name: f"outputs.{c.name}" if f"outputs.{c.name}" in have else c.name for c in outputs}
    slices = {c: c if c in have else f"inputs.{c}" for c in quality.by if {c, f"inputs.{c}"} & have}
    if truth in named.values():
        raise Invalid(f"'{truth}' is an output of {release} and the truth.", f"Name the output 'outputs.{truth}'.")
    pick(frame, [truth, *named.values()], whose=f"labelled answers of {release}")
    frame = frame[frame[[truth, *named.values()]].notna().all(axis=1)].reset_index(drop=True)
    if frame.empty:
        raise Invalid(f"No answer of {release} has its label yet.", "Post the labels first.")
    answered_by = frame[list(named.values())].set_axis(list(named), axis=1)
    rows = frame[[truth]].assign(**{column: frame[there] for column, there in slices.items()})
    return answered(rows, tensors(answered_by, outputs), truth, list(slices))


def _decided(verdict: Verdict, quality: Quality, ours: Answered, theirs: Answered | None) -> Verdict:
    """What cannot be said yet is no breach."""
    if len(ours) < MIN_SLICE:
        says = f"skipped: {len(ours)} labelled answers, {MIN_SLICE} are needed"
        return Verdict(gate=verdict.gate, passed=None, says=says)
    unknown = [column for column in quality.by if column not in ours.by]
    if unknown and parse(verdict.gate).over != "rows":
        return Verdict(gate=verdict.gate, passed=None, says=f"skipped: the answers have no column '{unknown[0]}'")
    if verdict.passed is not False:
        return verdict
    if verdict.limit is None:
        return verdict.model_copy(update={"passed": None})
    if judging.may_be_chance(verdict.gate, ours, theirs):
        says = f"{verdict.says}; on {len(ours):,} labelled answers that may be chance"
        return verdict.model_copy(update={"passed": None, "says": says})
    return verdict
