"""Benches: a release measured on a model server of its own, one bench at a time, in the background."""

from __future__ import annotations

import logging
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from themisto.errors import Conflict, Failed, Invalid, NotFound, ThemistoError
from themisto.serving.bench import Bench, BenchRequest, Point
from themisto.serving.models import Release, triton_name
from themisto.types import new_ulid
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.perf import PerfAnalyzer, write_inputs
from themisto_hub.control.serving.records import endpoint_row, release_model, release_row
from themisto_hub.model_server import pool, repository

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from themisto_hub.control.auth import Caller
    from themisto_hub.control.context import Control
    from themisto_hub.control.serving.artifacts import ArtifactStore
    from themisto_hub.control.serving.tables import EndpointRow

__all__ = ["Benches"]

_KEPT = 20
_STOP_S = 10.0
_TWICE = Retrying(retry=retry_if_exception_type(Failed), stop=stop_after_attempt(2), reraise=True)
"""A short measurement of a machine that is busy for a moment may have nothing in it."""
_log = logging.getLogger(__name__)


class Benches:
    """Starts, shows and ends benches.

    The model server is a member of the pool that exists for this alone: behind the same walls as a
    group's code, apart from whatever answers callers. It shares the machine's cores with them.
    """

    def __init__(self, control: Control, artifacts: ArtifactStore) -> None:
        self._control = control
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._benches: dict[str, Bench] = {}
        self._stops: dict[str, threading.Event] = {}
        self._thread: threading.Thread | None = None

    def start(self, caller: Caller, name: str, request: BenchRequest) -> Bench:
        """Begin to measure a release of an endpoint of the caller's groups.

        Raises Refused, NotFound, Conflict while a bench runs.
        """
        with self._lock:
            release, bench = self._recorded(caller, name, request)
            self._benches[bench.id] = bench
            self._stops[bench.id] = threading.Event()
            for old in sorted(self._benches)[:-_KEPT]:
                self._benches.pop(old)
                self._stops.pop(old)
            self._thread = threading.Thread(target=self._run, args=(bench.id, release, request), daemon=True)
            self._thread.start()
        return bench

    def _recorded(self, caller: Caller, name: str, request: BenchRequest) -> tuple[Release, Bench]:
        with (
            recorded_refusals(self._control, caller, "bench.start", f"endpoint/{name}"),
            self._control.db.write() as session,
        ):
            caller.require("deploy")
            endpoint = endpoint_row(session, name)
            require_owner(caller, endpoint)
            number = request.release or endpoint.stable or endpoint.candidate
            if number is None:
                raise NotFound(f"'{name}' has no release to measure.", "Deploy one first.")
            release = release_model(release_row(session, name, number))
            if release.artifact.kind == "chain":
                raise Invalid(f"{release} is a chain, which is not measured as one.", "Bench its model by itself.")
            self._require_free()
            bench = Bench(
                id=new_ulid(),
                endpoint=name,
                release=number,
                serving=release.serving,
                state="running",
                message="starting a model server for it",
                expected=request.points,
                by=caller.name,
                started_at=self._control.clock(),
            )
            self._record(session, caller, endpoint, bench, "bench.start")
        return release, bench

    def _record(self, session: Session, caller: Caller, endpoint: EndpointRow, bench: Bench, action: str) -> None:
        self._control.audit.append(
            session,
            actor=caller.name,
            action=action,
            object=f"release/{bench.endpoint}@{bench.release}",
            group=endpoint.group_name,
            after={"bench": bench.id, "points": bench.expected},
            request_id=caller.request_id,
        )

    def sweep(self) -> None:
        """What a killed control plane left running is not wanted any more."""
        for wish in self._control.settings.folder("pool").glob("*-bench.json"):
            wish.unlink(missing_ok=True)

    def get(self, caller: Caller, name: str, bench: str) -> Bench:
        """Raises NotFound, also for another group's."""
        with self._control.db.read() as session:
            owner = endpoint_row(session, name).group_name
        found = self._benches.get(bench)
        if found is None or found.endpoint != name or owner not in caller.groups:
            raise NotFound(f"There is no bench {bench}.", "It is gone once the control plane was started anew.")
        return found

    def cancel(self, caller: Caller, name: str, bench: str) -> Bench:
        """End it; one that is over stays as it is. Raises NotFound, Refused."""
        caller.require("deploy")
        found = self.get(caller, name, bench)
        if found.state == "running" and not self._stops[found.id].is_set():
            with self._control.db.write() as session:
                self._record(session, caller, endpoint_row(session, name), found, "bench.cancel")
            self._stops[found.id].set()
        return found

    def close(self) -> None:
        """End what runs: the control plane stops."""
        for stop in tuple(self._stops.values()):
            stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _require_free(self) -> None:
        running = next((one for one in self._benches.values() if one.state == "running"), None)
        if running is not None:
            raise Conflict(
                f"A bench of '{running.endpoint}' by {running.by} runs: {running.message}.",
                "One at a time, or they measure each other. Try again when it is over.",
            )

    def _run(self, bench: str, release: Release, request: BenchRequest) -> None:
        stop = self._stops[bench]
        try:
            left_out = self._measure(bench, release, request, stop)
            self._change(bench, state="done", message=f"{left_out} could not be measured" if left_out else "")
        except Exception as error:  # noqa: BLE001 - whatever it was, the bench ends and says so
            if not isinstance(error, ThemistoError):
                _log.exception("a bench of %s failed", release)
            state = "cancelled" if stop.is_set() else "failed"
            self._change(bench, state=state, message=str(error) if isinstance(error, ThemistoError) else "see the log")
        finally:
            pool.drop(self._control.settings, release.group, "bench")

    def _measure(self, bench: str, release: Release, request: BenchRequest, stop: threading.Event) -> int:
        """How many points could not be measured; Failed where none could."""
        settings, name = self._control.settings, triton_name(release.endpoint, release.number)
        artifact = repository.files(release.artifact.kind, self._artifacts.read(release.artifact.sha256))
        client = pool.client(settings, self._control.keys, release.group, "bench")
        seconds = request.seconds / request.points
        failure: Failed | None = None
        try:
            with tempfile.TemporaryDirectory(prefix="bench-") as place:
                folder = Path(place)
                write_inputs(folder / "inputs.json", release.golden, release.signature)
                address = pool.address(settings, release.group, "bench")[1]
                analyzer = PerfAnalyzer(folder, address, name, folder / "inputs.json")
                for instances in request.instances:
                    for delay in request.queue_delays_us:
                        change = {"instances": instances, "queue_delay_us": delay, "cache": False}
                        serving = release.serving.model_copy(update=change)
                        config = repository.model_config(name, release.artifact.kind, release.signature, serving)
                        client.load(name, config, artifact)
                        for concurrency in request.concurrencies:
                            batching = "off" if delay is None else f"{delay} µs"
                            plural = "" if instances == 1 else "s"
                            said = f"{instances} instance{plural}, batching {batching}, {concurrency} at a time"
                            self._change(bench, message=said)
                            try:
                                found = _TWICE(analyzer.measure, concurrency, seconds, stop)
                            except Failed as error:  # a machine that is busy for longer than a moment
                                _log.warning("%s: %s", name, error)
                                failure = error
                                continue
                            point = Point(instances=instances, queue_delay_us=delay, concurrency=concurrency, **found)
                            self._change(bench, points=(*self._benches[bench].points, point))
        finally:
            client.close()
        measured = len(self._benches[bench].points)
        if failure is not None and not measured:
            raise failure
        return request.points - measured

    def _change(self, bench: str, **change: object) -> None:
        self._benches[bench] = self._benches[bench].model_copy(update=change)
