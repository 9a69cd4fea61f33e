"""Serving: deploy a model, and ask about, move and retire what answers under a name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from themisto.errors import Conflict, NotFound, ThemistoError, did_you_mean
from themisto.serving.deploying import Deploying, Outcome
from themisto.serving.gating import Gates
from themisto.serving.lookup import endpoint_of, release_of
from themisto.serving.losses import LogLosses
from themisto.serving.models import Endpoint, Release
from themisto.serving.observing import MAX_REQUESTS, Observing, write_parquet
from themisto.serving.options import bench_request, slo_targets
from themisto.serving.order import Options, Order, take
from themisto.serving.ownership import Ownership
from themisto.serving.progress import Silent, Stages, Watcher

if TYPE_CHECKING:
    import pandas as pd

    from themisto.client import ControlPlane
    from themisto.serving.batch import Done
    from themisto.serving.bench import Bench
    from themisto.serving.client import EndpointClient
    from themisto.serving.experiment import Effect
    from themisto.serving.replay import Replayed
    from themisto.serving.rollout import Rollout
    from themisto.settings import Settings
    from themisto.tracking.service import Tracking

__all__ = ["Serving"]

_NAMES_FOR_S = 5.0


class Serving:
    """Endpoints and releases of the caller's groups, at the control plane."""

    def __init__(self, settings: Settings, control: ControlPlane, tracking: Tracking) -> None:
        self._settings = settings
        self._control = control
        self._tracking = tracking
        self.ownership = Ownership(control, self.status)
        self.gates = Gates(control)
        self._clients: dict[str, EndpointClient] = {}
        self._names: tuple[list[str], float] = ([], -_NAMES_FOR_S)

    # deploy

    def deploy(
        self, endpoint: str, model: Any, sample: Any, *, watcher: Watcher | None = None, **options: Any
    ) -> tuple[Outcome, Stages]:
        """Export `model`, prove it on `sample`, register it, release it, and wait until it answers.

        sample: a DataFrame of rows as callers will send them; others than the model's columns are left out.
        options: see `themisto.serving.order.Options`.
        The same content is the same release: calling it again goes on where it stopped.

        Raises Invalid (arguments, sample, a model that nothing exports), ParityError with the worst
        rows, NotFound (profile, feature service), Refused, Conflict (another release is on its way),
        Unavailable, Failed (the model server cannot run it, or an interrupt).
        """
        return self.carry_out(self.order(endpoint, Options.of(options)), model, sample, watcher=watcher)

    def order(self, endpoint: str, options: Options) -> Order:
        """What shall be deployed, checked before anything is computed. Raises Invalid, NotFound."""
        return take(self._control, endpoint, options)

    def carry_out(
        self, order: Order, model: Any, sample: Any, *, watcher: Watcher | None = None
    ) -> tuple[Outcome, Stages]:
        """Deploy what `order` says; see `deploy`."""
        stages = Stages(order.endpoint, watcher or Silent())
        return Deploying(self._control, self._tracking, stages).run(order, model, sample), stages

    # ask

    def endpoint(self, name: str) -> EndpointClient:
        """The endpoint's client; see `EndpointClient.predict`."""
        from themisto.serving.client import EndpointClient

        if name not in self._clients:
            self._clients[name] = EndpointClient(name, self._control)
        return self._clients[name]

    def endpoints(self) -> list[Endpoint]:
        """All that the caller may see, by name."""
        answer = cast("list[Any]", self._control.get("endpoints", limit=500))
        return [Endpoint.model_validate(one) for one in answer]

    def names(self) -> list[str]:
        """Names of the endpoints, a few seconds old at most: for completion."""
        if time.monotonic() - self._names[1] >= _NAMES_FOR_S:
            answer = self._control.request("GET", "endpoints", params={"limit": 500}, timeout_s=1.0).json()
            self._names = ([str(one["name"]) for one in answer], time.monotonic())
        return self._names[0]

    def status(self, name: str) -> Endpoint:
        """What answers under `name`. Raises NotFound, naming the nearest."""
        try:
            return endpoint_of(self._control, name)
        except NotFound as error:
            hint = did_you_mean(name, [e.name for e in self.endpoints()], "%deploy status shows those there are.")
            raise NotFound(f"There is no endpoint '{name}'.", hint) from error

    def releases(self, name: str, *, limit: int = 20) -> list[Release]:
        """Newest first."""
        self.status(name)
        answer = cast("list[Any]", self._control.get(f"endpoints/{name}/releases", limit=limit))
        return [Release.model_validate(one) for one in answer]

    def release(self, name: str, number: int) -> Release:
        return release_of(self._control, name, number)

    def diff(self, name: str) -> dict[str, Any]:
        """Candidate against stable: metrics, data, features, parameters, environment, serving, model, code."""
        self.status(name)
        return cast("dict[str, Any]", self._control.get(f"endpoints/{name}/diff"))

    # look at live traffic and at speed

    def log(
        self,
        name: str,
        *,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        limit: int = 100,
        labels: bool = False,
    ) -> pd.DataFrame:
        """The newest `limit` requests, a row for each predicted row; see `themisto.serving.predictions.rows`.

        since, until: `2h` (ago), or a time. labels: with a column `label` where labels were posted.
        """
        self.status(name)
        return Observing(self._control, name).log(since=since, until=until, limit=limit, labels=labels)

    def export_log(self, name: str, file: str, *, limit: int | None = None, **which: Any) -> dict[str, Any]:
        """`log` into a Parquet file, a million requests at the most; `{"file", "rows", "requests"}`."""
        frame = self.log(name, limit=MAX_REQUESTS if limit is None else limit, **which)
        write_parquet(frame, file)
        return {"file": file, "rows": len(frame), "requests": int((frame["row"] == 0).sum())}

    def label(self, name: str, frame: pd.DataFrame, *, on: str = "request_id", label: str = "label") -> dict[str, int]:
        """Say what turned out to be true; see `Observing.label`."""
        self.status(name)
        return Observing(self._control, name).label(frame, on=on, label=label)

    def shadow(self, name: str, *, since: str | datetime | None = None, limit: int = 2000) -> pd.DataFrame:
        """Callers' answers beside the shadow's; see `themisto.serving.shadow.compare`."""
        from themisto.serving.shadow import compare

        number = self.status(name).stable
        outputs = self.release(name, number).signature.outputs if number else ()
        log = Observing(self._control, name).log(since=since, limit=limit, pairs=True)
        return compare(log, tuple(column.name for column in outputs))

    def ab(
        self,
        name: str,
        metric: pd.DataFrame,
        *,
        on: str = "request_id",
        value: str | None = None,
        since: str | datetime | None = None,
    ) -> Effect:
        """The latest rollout's effect on a metric; see `themisto.serving.experiment.effect`.

        metric: a column `on` (`request_id`, or a key's) and one of values; `value` names it among several.
        since: from then on; default: the rollout's beginning.
        """
        from themisto.serving.experiment import of_rollout

        return of_rollout(Observing(self._control, name), self.status(name), metric, on=on, value=value, since=since)

    def bench(
        self,
        name: str,
        *,
        slo: Mapping[str, str] | Sequence[str] = (),
        seconds: int = 60,
        watcher: Watcher | None = None,
        **grid: Any,
    ) -> tuple[Bench, dict[str, str]]:
        """Measure the stable release on a model server of its own; the bench, and `slo` (default: its own) as a dict.

        grid: `queue_delays_us`, `instances`, `concurrencies`, `release`, as in BenchRequest.
        `themisto.serving.bench.proposal` reads the configuration for `slo` from it.
        """
        from themisto.serving.benching import measure

        targets = slo_targets(slo)
        self.status(name)
        found = measure(self._control, name, bench_request(seconds, grid), Stages(name, watcher or Silent()))
        return found, targets or dict(self.release(name, found.release).slo)

    def apply_bench(self, bench: Bench, slo: Mapping[str, str]) -> Release:
        """Release the configuration that `bench` proposes for `slo`. Raises NotFound where none meets it."""
        from themisto.serving.benching import release_proposed

        return release_proposed(self._control, bench, slo)

    def batch(self, name: str, input: str, output: str, *, watcher: Watcher | None = None) -> Done:
        """Files through the stable release into a folder of Parquet parts; see `themisto.serving.batch.Batch`."""
        from themisto.serving.batch import Batch

        self.status(name)
        return Batch(self.endpoint(name), input, output).run(Stages(name, watcher or Silent()))

    def log_losses(self) -> LogLosses:
        """What of the prediction log was lost, of all endpoints together."""
        return LogLosses.model_validate(self._control.get("predictions/losses"))

    def test(self, name: str) -> list[Replayed]:
        """Replay the golden requests of each release that has traffic, through the gateway.

        Raises NotFound where none has, Unavailable. What differs is in the result, not raised.
        """
        from themisto.serving.gateway import Gateway
        from themisto.serving.replay import replay

        found = self.status(name)
        numbers = [n for n in (found.stable, found.candidate if found.weight_pct else None) if n is not None]
        if not numbers:
            raise NotFound(f"'{name}' has no release that answers.", f"See %deploy status {name}.")
        gateway = Gateway(self._control)
        return [replay(gateway, self.release(name, number)) for number in numbers]

    # move

    def promote(self, name: str) -> Endpoint:
        """The candidate gets all traffic. Raises Conflict where none is running."""
        return self._moved(f"endpoints/{name}/rollouts/{self._rollout(name).id}/promote")

    def step(self, name: str) -> Endpoint:
        """The candidate gets the next share of its steps; after the last it is stable.

        Raises Conflict where none is to be taken, or it was taken meanwhile.
        """
        rollout = self._rollout(name)
        return self._moved(f"endpoints/{name}/rollouts/{rollout.id}/step", {"to": rollout.step + 1})

    def pause(self, name: str, *, reason: str = "") -> Endpoint:
        """From now on only a person takes the steps. Raises Conflict where the rollout takes none."""
        return self._moved(f"endpoints/{name}/rollouts/{self._rollout(name).id}/pause", {"reason": reason})

    def resume(self, name: str) -> Endpoint:
        """The steps are taken by themselves again, as the analysis allows. Raises Conflict as `pause`."""
        return self._moved(f"endpoints/{name}/rollouts/{self._rollout(name).id}/resume")

    def rollback(self, name: str, *, reason: str = "") -> Endpoint:
        """End the rollout on its way, or bring the earlier release back."""
        self.status(name)
        return self._moved(f"endpoints/{name}/rollback", {"reason": reason})

    def retire(self, name: str, *, force: bool = False) -> Endpoint:
        """Nothing answers under the name any more; it stays the group's.

        Raises Conflict, naming them, while it was called in the last seven days; force: all the same.
        """
        self.status(name)
        return self._moved(f"endpoints/{name}/retire", params={"force": True} if force else None)

    def review_url(self, name: str) -> str:
        """The page on which another person approves. Raises Conflict where nothing waits."""
        rollout = self.status(name).rollout
        if rollout is None or rollout.review_url is None:
            state = rollout.state.replace("_", " ") if rollout else "not deployed"
            raise Conflict(f"Nothing of '{name}' waits for approval: it is {state}.", f"See %deploy status {name}.")
        return rollout.review_url

    def _rollout(self, name: str) -> Rollout:
        rollout = self.status(name).rollout
        if rollout is None:
            raise Conflict(f"'{name}' has no rollout.", "Deploy a release first.")
        return rollout

    def _moved(self, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None) -> Endpoint:
        try:
            return Endpoint.model_validate(self._control.post(path, body, params=params))
        except ThemistoError:
            raise
        except KeyboardInterrupt:
            raise Conflict(
                "Interrupted: it may have been done or not.", f"%deploy status {path.split('/')[1]} says."
            ) from None
