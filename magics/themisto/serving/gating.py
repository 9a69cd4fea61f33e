"""Gating: from gates and a hold-out as people name them to what a release records and the control plane stores."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from themisto.errors import Conflict, Invalid, NotFound, did_you_mean
from themisto.serving.gates import Cause, Quality, Retraining, RetrainingRequest, parse
from themisto.serving.lookup import endpoint_of, release_of
from themisto.serving.models import Endpoint, Release, Signature
from themisto.types import Model

if TYPE_CHECKING:
    import pandas as pd

    from themisto.client import ControlPlane
    from themisto.serving.candidate import Candidate
    from themisto.serving.holdout import HoldOut, HoldOutRequest

__all__ = ["SAME", "Asked", "Gates", "Named", "Prepared", "asked"]

SAME = "same"
"""The hold-out that the endpoint pins, else that of its newest gated release."""

_DIGEST = re.compile(r"[0-9a-f]{8,64}\Z")
_UPLOAD_S = 180.0


class Asked(Model):
    """Gates as they were asked for, checked by themselves. `label` and `by` may come with a stored hold-out."""

    gates: tuple[str, ...]
    label: str | None = None
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """Rows and what their variable is called: the stored hold-out's name."""

    name: str
    frame: Any


@dataclass(frozen=True)
class Prepared:
    """What the release records, and what must be uploaded first: nothing for a hold-out that is stored."""

    quality: Quality
    upload: HoldOutRequest | None = None
    data: bytes = b""


def asked(gates: str | Sequence[str], *, holdout: bool, label: str | None, by: str | Sequence[str]) -> Asked | None:
    """None where no gate is asked for. Raises Invalid for a gate that is none, and for rows without a gate."""
    texts = [gates] if isinstance(gates, str) else list(gates)
    columns = (by,) if isinstance(by, str) else tuple(by)
    if not texts:
        if holdout or label or columns:
            raise Invalid(
                "A hold-out without a gate decides nothing.", "Say what must be reached: --gate 'auc >= champion'."
            )
        return None
    canonical = tuple(dict.fromkeys(str(parse(text)) for text in texts))
    return Asked(gates=canonical, label=label, by=columns)


class Gates:
    """The caller's gates, hold-outs and retraining, at the control plane."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    # for a deploy

    def prepare(
        self, endpoint: Endpoint | None, asked: Asked, holdout: Any, candidate: Candidate, trained_on: str | None
    ) -> Prepared:
        """Everything that can be checked here is checked here, before anything is stored.

        holdout: a DataFrame, the path of a .parquet or .csv file, `same`, or the name or digest of a stored one.
        Raises Invalid, NotFound.
        """
        from themisto.serving.holdout import HoldOutRequest, require_frame, require_unseen, to_parquet

        signature = candidate.export.signature
        frame, name = _frame_of(holdout)
        if frame is None:
            return Prepared(self._stored(endpoint, asked, name, signature, trained_on))
        require_frame(frame)
        if asked.label is None:
            raise Invalid(
                "Which column of the hold-out is the label?",
                f"Name it with --label; there are: {', '.join(str(c) for c in frame.columns[:20])}.",
            )
        frame = frame.set_axis([str(c) for c in frame.columns], axis=1)
        kept, digests = self._checked(endpoint, asked, frame, signature)
        require_unseen(digests, trained_on)
        data, sha256 = to_parquet(kept, list(kept.columns))
        request = HoldOutRequest(
            sha256=sha256,
            group=self._control.group,
            name=name,
            rows=len(kept),
            columns=tuple(kept.columns),
            digests=digests,
        )
        return Prepared(_quality(asked, sha256, len(kept), asked.label, asked.by), request, data)

    def upload(self, prepared: Prepared) -> None:
        """Have the hold-out stored. Raises what the control plane raises."""
        request = prepared.upload
        if request is None:
            return
        for known in self.holdouts():
            same = (known.sha256, known.name) == (request.sha256, request.name)
            if same and set(request.digests) <= set(known.digests):
                return
        path = f"holdouts/{request.group}/{request.sha256}"
        self._control.request("PUT", path, content=prepared.data, timeout_s=_UPLOAD_S)
        self._control.post("holdouts", request.model_dump(mode="json"))

    def _checked(
        self, endpoint: Endpoint | None, asked: Asked, frame: pd.DataFrame, signature: Signature
    ) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The columns that are needed and no others, and the digests of the whole frame. Raises Invalid."""
        from themisto.serving import holdout
        from themisto.serving.candidate import fit_sample

        assert asked.label is not None
        holdout.require_labels(frame, asked.label, asked.by, asked.gates)
        inputs = [column.name for column in signature.inputs]
        others = [c for c in (asked.label, *asked.by, *self._champions(endpoint, asked, frame)) if c not in inputs]
        kept = fit_sample(frame, inputs).assign(**{column: frame[column] for column in others})
        holdout.require_fit(kept, asked.label, asked.gates, signature)
        digests: tuple[str, ...] = ()
        with suppress(Invalid):  # a frame that no run could have recorded either
            digests = holdout.frame_digests(frame, asked.label)
        return kept, digests

    def _champions(self, endpoint: Endpoint | None, asked: Asked, frame: pd.DataFrame) -> list[str]:
        """Columns that the stable release takes. Raises Invalid where a gate needs them and they are missing."""
        if endpoint is None or endpoint.stable is None:
            return []
        champion = release_of(self._control, endpoint.name, endpoint.stable)
        takes = [column.name for column in champion.signature.inputs]
        missing = [name for name in takes if name not in frame.columns]
        if missing and any(parse(gate).champion for gate in asked.gates):
            raise Invalid(
                f"{champion}, the champion, takes '{missing[0]}', which the hold-out does not have.",
                "Give a hold-out with the columns of both: they are judged on the same rows.",
            )
        return [name for name in takes if name in frame.columns]

    def _stored(
        self, endpoint: Endpoint | None, asked: Asked, name: str, signature: Signature, trained_on: str | None
    ) -> Quality:
        from themisto.serving.holdout import require_unseen
        from themisto.serving.metrics import require_outputs

        before = self._before(endpoint) if name == SAME else None
        if name == SAME and before is None:
            where = f"'{endpoint.name}' has" if endpoint else "A new endpoint has"
            raise Invalid(f"{where} no hold-out yet.", "Give one: --holdout VAR --label COLUMN.")
        found = self._find(before.holdout_sha256 if before else name)
        label = asked.label or (before.label if before else None)
        by = asked.by or (before.by if before else ())
        if label is None:
            raise Invalid("Which column of the hold-out is the label?", "Name it with --label.")
        takes = [column.name for column in signature.inputs]
        missing = [c for c in (label, *by, *takes) if c not in found.columns]
        if missing:
            raise Invalid(
                f"The stored hold-out '{found.name}' has no column '{missing[0]}'.",
                f"It has: {', '.join(found.columns[:20])}. Give other rows with --holdout VAR.",
            )
        if label in takes:
            raise Invalid(f"'{label}' is the label and also what the model takes.", "Fit the model without it.")
        for gate in asked.gates:
            require_outputs(parse(gate).metric, tuple(column.name for column in signature.outputs))
        require_unseen(found.digests, trained_on)
        return _quality(asked, found.sha256, found.rows, label, by)

    def _before(self, endpoint: Endpoint | None) -> Quality | None:
        """What the endpoint pins, else what its newest gated release was judged on."""
        if endpoint is None:
            return None
        if endpoint.pinned is not None:
            return endpoint.pinned
        found = cast("list[Any]", self._control.get(f"endpoints/{endpoint.name}/releases", limit=100))
        return next((r.quality for r in map(Release.model_validate, found) if r.quality is not None), None)

    def _find(self, name: str) -> HoldOut:
        """A stored hold-out by its name or (the beginning of) its digest. Raises NotFound naming the nearest."""
        stored = self.holdouts()
        found = [h for h in stored if h.name == name]
        if not found and _DIGEST.match(name):
            found = [h for h in stored if h.sha256.startswith(name)]
        if found:
            return found[0]
        names = list(dict.fromkeys(h.name for h in stored))
        hint = did_you_mean(name, names, f"There are: {', '.join(names) or 'none yet'}.")
        raise NotFound(f"There is no DataFrame, file or stored hold-out '{name[:100]}'.", hint)

    # by hand

    def holdouts(self) -> list[HoldOut]:
        """Those stored for the caller's group, newest first."""
        from themisto.serving.holdout import HoldOut

        answer = cast("list[Any]", self._control.get("holdouts", group=self._control.group, limit=500))
        return [HoldOut.model_validate(one) for one in answer]

    def pin(self, name: str, gates: str | Sequence[str] = ()) -> Endpoint:
        """Every later release must pass `gates` (default: those of the newest gated release) on the same hold-out.

        Raises Conflict where no release was gated, or one is on its way.
        """
        endpoint = endpoint_of(self._control, name)
        quality = self._before(endpoint)
        if quality is None:
            raise Conflict(
                f"No release of '{name}' was judged on a hold-out yet.",
                "Deploy one with --gate and --holdout; then pin what it was judged by.",
            )
        wanted = asked(gates, holdout=False, label=None, by=())
        if wanted is not None:
            quality = quality.model_copy(update={"gates": wanted.gates})
        return Endpoint.model_validate(self._control.put(f"endpoints/{name}/gates", quality.model_dump(mode="json")))

    def unpin(self, name: str) -> Endpoint:
        """Nothing is pinned any more; recorded, and shown to whoever approves the next release."""
        return Endpoint.model_validate(self._control.request("DELETE", f"endpoints/{name}/gates").json())

    def retraining(self, name: str) -> Retraining | None:
        """What is run when the model has become too bad."""
        found = self._control.get(f"endpoints/{name}/retraining")
        return Retraining.model_validate(found) if found is not None else None

    def retrain(
        self, name: str, schedule: str, *, on: Sequence[Cause] = ("gate",), cooldown_h: float = 24.0
    ) -> Retraining:
        """Run `schedule` by itself on a breached gate or on drift, at most once in `cooldown_h` hours.

        Its notebook deploys as its owner would: through the same gates, and in prod the same approval.
        """
        try:
            request = RetrainingRequest(schedule=schedule, on=tuple(on), cooldown_s=round(cooldown_h * 3600))
        except ValueError:
            raise Invalid(
                f"'{schedule}' every {cooldown_h:g} h is no retraining.",
                "Give a schedule's name, and 10 minutes to 90 days between two.",
            ) from None
        return Retraining.model_validate(
            self._control.put(f"endpoints/{name}/retraining", request.model_dump(mode="json"))
        )

    def retrain_off(self, name: str) -> None:
        """Nothing is run by itself any more."""
        self._control.delete(f"endpoints/{name}/retraining")

    def drifted(self, name: str, reason: str) -> Retraining | None:
        """Report drift that a monitor saw; what the endpoint names for drift is started."""
        found = self._control.post(f"endpoints/{name}/drift", {"reason": reason})
        return Retraining.model_validate(found) if found is not None else None


def _frame_of(holdout: Any) -> tuple[pd.DataFrame | None, str]:
    """The rows and a name for them; no rows where a stored hold-out is named."""
    from themisto.serving.holdout import read_frame

    if isinstance(holdout, Named):
        return holdout.frame, holdout.name
    if isinstance(holdout, str | Path):
        text = str(holdout)
        if "://" in text and not text.startswith("file://"):
            scheme = text.partition("://")[0]
            raise Invalid(f"{scheme}:// is not read from here.", "Read it into a DataFrame and give that.")
        path = Path(text.removeprefix("file://")).expanduser()
        if path.suffix or "/" in text:
            return read_frame(path), path.name[:100]
        return None, text
    return holdout, "hold-out"


def _quality(asked: Asked, sha256: str, rows: int, label: str, by: Sequence[str]) -> Quality:
    try:
        return Quality(gates=asked.gates, holdout_sha256=sha256, rows=rows, label=label, by=tuple(by))
    except ValueError as error:
        raise Invalid(f"These gates cannot be asked for: {error}", "Give up to 20 gates and 5 columns.") from None
