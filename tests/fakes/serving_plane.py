"""A stand-in for control plane and gateway as the serving verb sees them: releases in memory, answers by onnxruntime.

Rollouts come to their end at the first look; what a test wants to go wrong, it says (`down`, `fail_with`,
`refuse_tokens`). The prediction log is read by the real reader, from the folder `log`. The real ones are tried in
tests/integration/serving and tests/integration/control_serving.
"""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from themisto.serving import trial
from themisto.serving.bench import Bench, BenchRequest
from themisto.serving.exporter import Export
from themisto.serving.frame import NUMPY
from themisto.serving.gates import Drift, GateResult, Quality, Retraining, RetrainingRequest
from themisto.serving.gateway import decode, encode
from themisto.serving.holdout import HoldOut, HoldOutRequest
from themisto.serving.losses import LogLosses
from themisto.serving.models import Endpoint, Release, ReleaseRequest, ServingConfig
from themisto.serving.names import base_of, version_name, version_of
from themisto.serving.rollout import Rollout
from themisto.serving.runner import run
from themisto.types import new_ulid, utcnow
from themisto_hub.control.serving.prediction_log import PredictionLog, Rows

__all__ = ["ServingPlane"]

PREFIX = "/services/themisto"
API = PREFIX + "/api/v1"
_LENGTH = "Inference-Header-Content-Length"


class ServingPlane:
    """`plane.url` is what THEMISTO_URL is set to; its state is open for tests to look into and to set."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.releases: dict[str, list[Release]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.log = Path("/nowhere")
        self.bench = Bench(
            id=new_ulid(),
            endpoint="none",
            release=1,
            serving=ServingConfig(),
            state="done",
            expected=1,
            by="scientist",
            started_at=utcnow(),
        )
        self.holdouts: dict[str, HoldOut] = {}
        self.retraining: dict[str, Retraining] = {}
        self.drift: list[str] = []
        self._rows: dict[str, bytes] = {}
        self.idempotency: list[str] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, list[Any]]]] = []
        self.losses = LogLosses()
        self.stands_in = ""
        self.fail_with = ""
        self.looks_while_loading = 0
        self.refuse_tokens: set[str] = set()
        self.gateway_status: int | None = None
        self.down: set[str] = set()
        self._tokens = 0
        self._looks = 0
        self._server = uvicorn.Server(uvicorn.Config(self._app(), host="127.0.0.1", port=0, log_level="warning"))
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = self.base + PREFIX
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> ServingPlane:
        self._thread.start()
        until = time.monotonic() + 10
        while not self._server.started and time.monotonic() < until:
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    # state

    def set(self, name: str, **changes: Any) -> Endpoint:
        found = self.endpoints[name].model_copy(update={"updated_at": utcnow(), **changes})
        self.endpoints[name] = found
        return found

    def _rollout(self, name: str, number: int, request: ReleaseRequest) -> Rollout:
        now = utcnow()
        return Rollout(
            id=new_ulid(),
            endpoint=name,
            release=number,
            strategy=request.rollout.strategy,
            weight_pct=request.rollout.weight_pct,
            steps=request.rollout.steps,
            manual=request.rollout.manual,
            state="loading",
            stage="load",
            requested_by="scientist",
            created_at=now,
            updated_at=now,
        )

    def _look(self, name: str) -> Endpoint:
        """The rollout goes on a step at each look."""
        found = self.endpoints[name]
        rollout = found.rollout
        if rollout is None or rollout.state != "loading":
            return found
        self._looks += 1
        if self._looks <= self.looks_while_loading:
            return found
        gates = self._judged(self.releases[name][rollout.release - 1], found.stable)
        rollout = rollout.model_copy(update={"gates": gates})
        words = "; ".join(one.says for one in gates if one.passed is False)
        if words:
            ended = rollout.model_copy(update={"state": "failed", "message": f"gate not passed: {words}"})
            return self.set(name, rollout=ended, candidate=None)
        if self.fail_with:
            ended = rollout.model_copy(update={"state": "failed", "message": self.fail_with})
            return self.set(name, rollout=ended, candidate=None)
        if found.tier == "prod":
            waits = {"state": "waiting_approval", "review_url": f"http://localhost:1/approve/{rollout.id}"}
            return self.set(name, rollout=rollout.model_copy(update=waits))
        if found.stable is None or rollout.strategy == "replace":
            done = rollout.model_copy(update={"state": "done", "weight_pct": 100})
            return self.set(name, rollout=done, stable=rollout.release, candidate=None, weight_pct=0)
        running = rollout.model_copy(update={"state": "running", "step_since": utcnow()})
        return self.set(name, rollout=running, candidate=rollout.release, weight_pct=rollout.weight_pct)

    def _judged(self, release: Release, stable: int | None) -> tuple[GateResult, ...]:
        """As the clean process decides: its own functions, in this process."""
        quality = release.quality or self.endpoints[release.endpoint].pinned
        if quality is None:
            return ()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "quality.json").write_text(quality.model_dump_json())
            (folder / "holdout.parquet").write_bytes(self._rows[quality.holdout_sha256])
            champion = self.releases[release.endpoint][stable - 1] if stable else None
            for role, one in (("candidate", release), ("champion", champion)):
                if one is not None:
                    (folder / f"{role}.json").write_text(one.model_dump_json())
                    (folder / f"{role}.onnx").write_bytes(self.artifacts[one.artifact.sha256])
            verdicts = trial.judge(folder)
        return tuple(
            GateResult(
                **verdict.model_dump(),
                release=release.number,
                champion_release=stable if verdict.champion is not None else None,
                source="holdout",
                pinned=release.quality is None,
                holdout_sha256=quality.holdout_sha256,
                rows=quality.rows,
                at=utcnow(),
            )
            for verdict in verdicts
        )

    def _chosen(self, endpoint: Endpoint, key: str) -> int:
        if endpoint.candidate is None or endpoint.stable is None:
            return endpoint.stable or endpoint.candidate or 1
        share = int(hashlib.sha256(key.encode()).hexdigest(), 16) % 100
        return endpoint.candidate if share < endpoint.weight_pct else endpoint.stable

    # routes

    def _app(self) -> FastAPI:
        app = FastAPI()
        for add in (
            self._outages,
            self._workbench,
            self._stores,
            self._holdouts,
            self._reads,
            self._observes,
            self._gates,
            self._rollouts,
            self._moves,
        ):
            add(app)

        @app.post("/v2/models/{name}/infer")
        async def infer(name: str, request: Request) -> Response:
            return self._infer(name, await request.body(), dict(request.headers))

        return app

    def _outages(self, app: FastAPI) -> None:
        @app.middleware("http")
        async def outages(request: Request, go_on: Any) -> Response:
            part = "gateway" if request.url.path.startswith("/v2") else "control"
            if part in self.down:
                return Response("<html>proxy: 503</html>", 503, media_type="text/html")
            return await go_on(request)

    def _workbench(self, app: FastAPI) -> None:
        @app.get(PREFIX + "/.well-known/themisto")
        def discovery() -> dict[str, Any]:
            return {
                "version": "0",
                "gateway": {"http": self.base, "grpc": "127.0.0.1:1"},
                "tracking": self.base,
                "review": "http://localhost:1",
                "isolation": "none",
                "demo": True,
            }

        @app.get(API + "/whoami")
        def whoami() -> dict[str, Any]:
            return {"name": "scientist", "groups": ["data-science"], "scopes": ["deploy", "infer"]}

        @app.post(API + "/tokens")
        def tokens() -> dict[str, Any]:
            self._tokens += 1
            return {"token": f"token-{self._tokens}", "expires_at_s": time.time() + 600}

        @app.get(API + "/profiles")
        def profiles() -> list[dict[str, Any]]:
            return [{"name": "cpu-small", "uses": ["model"]}, {"name": "job-small", "uses": ["job"]}]

    def _stores(self, app: FastAPI) -> None:
        @app.get(API + "/features/services/{ref}")
        def service(ref: str) -> Any:
            found = self.services.get(ref.partition("@")[0])
            return found or _problem(404, "not-found", f"There is no feature service '{ref}'.")

        @app.get(API + "/features/services")
        def services() -> list[Any]:
            return list(self.services.values())

        @app.head(API + "/artifacts/{sha256}")
        def has(sha256: str) -> Response:
            return Response(status_code=200 if sha256 in self.artifacts else 404)

        @app.put(API + "/artifacts/{sha256}")
        async def put(sha256: str, request: Request) -> Any:
            data = await request.body()
            assert hashlib.sha256(data).hexdigest() == sha256
            self.artifacts[sha256] = data
            return {"sha256": sha256, "size_bytes": len(data)}

    def _holdouts(self, app: FastAPI) -> None:
        @app.put(API + "/holdouts/{group}/{sha256}")
        async def put(group: str, sha256: str, request: Request) -> Any:
            data = await request.body()
            assert hashlib.sha256(data).hexdigest() == sha256
            self._rows[sha256] = data
            return {"sha256": sha256}

        @app.post(API + "/holdouts")
        def register(body: HoldOutRequest) -> Any:
            size = len(self._rows[body.sha256])
            stored = HoldOut(**body.model_dump(), size_bytes=size, stored_by="scientist", stored_at=utcnow())
            self.holdouts[body.sha256] = stored
            return stored.model_dump(mode="json")

        @app.get(API + "/holdouts")
        def holdouts(group: str) -> Any:
            return [one.model_dump(mode="json") for one in reversed(self.holdouts.values()) if one.group == group]

    def _gates(self, app: FastAPI) -> None:
        @app.put(API + "/endpoints/{name}/gates")
        def pin(name: str, body: Quality) -> Any:
            return self.set(name, pinned=body).model_dump(mode="json")

        @app.delete(API + "/endpoints/{name}/gates")
        def unpin(name: str) -> Any:
            return self.set(name, pinned=None).model_dump(mode="json")

        @app.get(API + "/endpoints/{name}/retraining")
        def retraining(name: str) -> Any:
            found = self.retraining.get(name)
            return found.model_dump(mode="json") if found else None

        @app.put(API + "/endpoints/{name}/retraining")
        def retrain(name: str, body: RetrainingRequest) -> Any:
            if body.schedule not in ("retrain-credit",):
                return _problem(404, "not-found", f"There is no schedule '{body.schedule}'.")
            self.retraining[name] = Retraining(**body.model_dump(), set_by="scientist")
            return self.retraining[name].model_dump(mode="json")

        @app.delete(API + "/endpoints/{name}/retraining", status_code=204)
        def retrain_off(name: str) -> None:
            self.retraining.pop(name, None)

        @app.post(API + "/endpoints/{name}/drift")
        def drift(name: str, body: Drift) -> Any:
            self.drift.append(body.reason)
            return retraining(name)

    def _reads(self, app: FastAPI) -> None:
        @app.get(API + "/endpoints")
        def endpoints() -> Any:
            return [e.model_dump(mode="json") for e in self.endpoints.values()]

        @app.get(API + "/endpoints/{name}")
        def endpoint(name: str) -> Any:
            if name not in self.endpoints:
                return _problem(404, "not-found", f"There is no endpoint '{name}'.")
            return self._look(name).model_dump(mode="json")

        @app.get(API + "/endpoints/{name}/releases")
        def releases(name: str) -> Any:
            return [r.model_dump(mode="json") for r in reversed(self.releases.get(name, []))]

        @app.get(API + "/endpoints/{name}/releases/{number}")
        def release(name: str, number: int) -> Any:
            if not 1 <= number <= len(self.releases[name]):
                return _problem(404, "not-found", f"There is no release {name}@{number}.")
            return self.releases[name][number - 1].model_dump(mode="json")

    def _observes(self, app: FastAPI) -> None:
        @app.get(API + "/endpoints/{name}/predictions")
        def predictions(name: str, limit: int, rows: Rows, after: str | None = None) -> Response:
            table, place = PredictionLog(self.log).page(name, limit=limit, rows=rows, after=after)
            file = io.BytesIO()
            pq.write_table(table, file)
            return Response(file.getvalue(), headers={"x-next": place} if place else None)

        @app.post(API + "/endpoints/{name}/benches", status_code=201)
        def start_bench(name: str, body: BenchRequest) -> Any:
            self.bench = self.bench.model_copy(update={"endpoint": name, "expected": body.points})
            return self.bench.model_copy(update={"state": "running", "points": ()}).model_dump(mode="json")

        @app.get(API + "/endpoints/{name}/benches/{bench}")
        def bench(name: str, bench: str) -> Any:
            return self.bench.model_dump(mode="json")

        @app.delete(API + "/endpoints/{name}/benches/{bench}")
        def cancel_bench(name: str, bench: str) -> Any:
            self.bench = self.bench.model_copy(update={"state": "cancelled"})
            return self.bench.model_dump(mode="json")

    def _rollouts(self, app: FastAPI) -> None:
        @app.post(API + "/endpoints/{name}/rollouts/{rollout}/promote")
        def promote(name: str, rollout: str) -> Any:
            found = self.endpoints[name]
            if found.candidate is None or found.rollout is None:
                return _problem(409, "conflict", "Nothing is running.")
            done = found.rollout.model_copy(update={"state": "done"})
            return self.set(name, stable=found.candidate, candidate=None, weight_pct=0, rollout=done).model_dump(
                mode="json"
            )

        @app.post(API + "/endpoints/{name}/rollouts/{rollout}/step")
        def step(name: str, rollout: str, body: dict[str, int]) -> Any:
            found = self.endpoints[name].rollout
            if found is None or found.state != "running" or body["to"] != found.step + 1:
                return _problem(409, "conflict", "No such step is to be taken.")
            if body["to"] + 1 >= len(found.steps):
                return promote(name, rollout)
            weight = found.steps[body["to"]]
            taken = found.model_copy(update={"step": body["to"], "weight_pct": weight})
            return self.set(name, weight_pct=weight, rollout=taken).model_dump(mode="json")

        @app.post(API + "/endpoints/{name}/rollouts/{rollout}/{verb}")
        def by_hand(name: str, rollout: str, verb: str, body: dict[str, str] | None = None) -> Any:
            found = self.endpoints[name].rollout
            if found is None or found.state != "running":
                return _problem(409, "conflict", "Nothing is running.")
            says = f"{verb}d by scientist" + (f": {body['reason']}" if body and body.get("reason") else "")
            changed = found.model_copy(update={"manual": verb == "pause", "message": says})
            return self.set(name, rollout=changed).model_dump(mode="json")

    def _moves(self, app: FastAPI) -> None:
        @app.post(API + "/endpoints/{name}/releases", status_code=201)
        def create(name: str, body: ReleaseRequest, request: Request) -> Any:
            self.idempotency.append(request.headers.get("idempotency-key", ""))
            return self._create(name, body).model_dump(mode="json")

        @app.get(API + "/endpoints/{name}/rollouts/{rollout}")
        def rollout(name: str, rollout: str) -> Any:
            found = self._look(name).rollout
            assert found is not None
            return found.model_dump(mode="json")

        @app.post(API + "/endpoints/{name}/versions")
        def open_version(name: str) -> Any:
            return self._open_version(name).model_dump(mode="json")

        @app.post(API + "/endpoints/{name}/{verb}")
        def move(name: str, verb: str) -> Any:
            changes: dict[str, Any] = {"candidate": None, "weight_pct": 0}
            if verb == "retire":
                changes |= {"stable": None, "retired": True}
            return self.set(name, **changes).model_dump(mode="json")

        @app.get(API + "/predictions/losses")
        def losses() -> Any:
            return self.losses.model_dump(mode="json")

    def _open_version(self, name: str) -> Endpoint:
        """As the control plane: the newest that never answered, else the next number."""
        base = base_of(name)
        versions = {version_of(n): e for n, e in self.endpoints.items() if base_of(n) == base}
        newest = versions[max(versions)]
        if newest.name != base and newest.stable is None:
            return newest
        opened = version_name(base, max(versions) + 1)
        self.endpoints[opened] = Endpoint(name=opened, group=newest.group, tier="dev", updated_at=utcnow())
        return self.endpoints[opened]

    def _create(self, name: str, body: ReleaseRequest) -> Release:
        known = self.releases.setdefault(name, [])
        same = [r for r in known if _content(r) == body.content_hash]
        release = same[0] if same else self._new(name, len(known) + 1, body)
        if not same:
            known.append(release)
        self._looks = 0
        before = self.endpoints.get(name)
        opened = self._rollout(name, release.number, body)
        if before is None:
            self.endpoints[name] = Endpoint(
                name=name, group=body.group, tier=body.tier, rollout=opened, updated_at=utcnow()
            )
        elif not same or (before.rollout and before.rollout.state == "failed"):
            self.set(name, rollout=opened, tier=body.tier)
        return release

    def _new(self, name: str, number: int, body: ReleaseRequest) -> Release:
        fields = {field: getattr(body, field) for field in ReleaseRequest.model_fields}
        return Release(
            **fields,
            id=new_ulid(),
            endpoint=name,
            number=number,
            author="scientist",
            created_at=utcnow(),
            hash=body.content_hash,
        )

    def _infer(self, name: str, body: bytes, headers: dict[str, str]) -> Response:
        if self.gateway_status is not None:
            return JSONResponse({"error": "as the test says"}, self.gateway_status)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if not token or token in self.refuse_tokens:
            return Response("Jwt is expired", 401)
        if name not in self.endpoints or self.endpoints[name].stable is None:
            return JSONResponse({"error": "no such endpoint"}, 404)
        number = self._chosen(self._look(name), headers.get("themisto-key", ""))
        release = self.releases[name][number - 1]
        length = int(headers[_LENGTH.lower()])
        head = json.loads(body[:length])
        given = decode(_as_outputs(head) + body[length:], len(_as_outputs(head)))
        self.asked.append((name, headers, {n: a.reshape(-1).tolist() for n, a in given.items()}))
        wanted = {c.name for c in release.signature.inputs}
        if release.feature_service and not wanted & given.keys():
            rows = len(next(iter(given.values())))
            given = {c.name: np.zeros((rows, 1), NUMPY[c.dtype]) for c in release.signature.inputs}
        if wanted - given.keys():
            return JSONResponse({"error": f"expected {len(wanted)} inputs but got {len(given)}"}, 400)
        if max(len(a) for a in given.values()) > release.serving.max_batch:
            return JSONResponse({"error": "batch-size must be <= max_batch"}, 400)
        export = Export(
            kind=release.artifact.kind, data=self.artifacts[release.artifact.sha256], signature=release.signature
        )
        answer = run(export, given)
        content, sent = encode(release.signature.outputs, answer)
        size = int(sent[_LENGTH])
        header = json.loads(content[:size])
        reply = json.dumps({"model_name": f"{name}--{number}", "outputs": header["inputs"]}).encode()
        told = {_LENGTH: str(len(reply)), "x-release": f"{name}@{number}"}
        return Response(
            reply + content[size:], headers=told | ({"x-fallback": self.stands_in} if self.stands_in else {})
        )


def _as_outputs(head: dict[str, Any]) -> bytes:
    return json.dumps({"outputs": head["inputs"]}).encode()


def _content(release: Release) -> str:
    fields = {field: getattr(release, field) for field in ReleaseRequest.model_fields}
    return ReleaseRequest(**fields).content_hash


def _problem(status: int, slug: str, detail: str) -> JSONResponse:
    return JSONResponse({"type": f"urn:themisto:{slug}", "detail": detail}, status)
