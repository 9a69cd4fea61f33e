"""The registry behind the control plane; online reads go through the gateway, rows are cached by digest."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter

from themisto.client import ControlPlane, Unreachable, map_httpx_errors
from themisto.errors import Failed, Invalid, Unavailable, error_for
from themisto.features.answers import Answer
from themisto.features.expectations import rules_of
from themisto.features.models import Entity, FeatureService, FeatureView
from themisto.features.records import (
    Erasure,
    Freshness,
    Materialization,
    PoisonedMessage,
    Pushed,
    RegisteredView,
    ServiceSpec,
    ViewData,
)
from themisto.features.registry import Watch, ignored, without_rows
from themisto.features.rowfile import check_whole, digest_file, write_parquet

__all__ = ["RemoteRegistry"]

_TRANSFER_S = 600.0
_MATERIALIZE_S = 3600.0
_UNUSED_S = 7 * 86_400.0
_READ_MS = 10_000
"""Nobody waits in a payment's path here: as long as the gateway lets a request be."""
_VIEWS = TypeAdapter(list[RegisteredView])
_SERVICES = TypeAdapter(list[ServiceSpec])
_POISON = TypeAdapter(list[PoisonedMessage])
_FRESHNESS = TypeAdapter(list[Freshness])


class RemoteRegistry:
    """`Registry` of the caller's group at the control plane."""

    def __init__(self, control: ControlPlane, home: Path, *, timeout_s: float = 30.0) -> None:
        self._control = control
        self._cache = home / "cache" / "features"
        self._timeout_s = timeout_s

    def put_entity(self, entity: Entity) -> Entity:
        return Entity(**self._put(f"features/entities/{entity.name}", entity.model_dump(mode="json")))

    def entity(self, name: str) -> Entity:
        return Entity.model_validate(self._control.get(f"features/entities/{name}", **self._group))

    def put_view(self, view: FeatureView) -> RegisteredView:
        return RegisteredView.model_validate(self._put(f"features/views/{view.name}", view.model_dump(mode="json")))

    def put_rows(self, view: FeatureView, source: Any) -> ViewData:
        path, data = write_parquet(view, source, self._cache)
        there = self.view(view.name).data
        judged = data.model_copy(update={"rules": rules_of(view.expect)})
        if there is not None and there.same_as(judged):
            return there
        more = {"left_out": json.dumps(dict(data.left_out))} if data.left_out else {}
        return ViewData.model_validate(self._send("PUT", f"features/views/{view.name}/data", path, data, **more))

    def push(self, view: str, source: Any) -> Pushed:
        newest = self.view(view).view
        check_whole(newest, source)
        with tempfile.TemporaryDirectory() as folder:
            path, data = write_parquet(newest, source, Path(folder))
            with _lost(f"Whether the rows of '{view}' arrived is not known; either all did or none.", _AGAIN):
                done = Pushed.model_validate(self._send("POST", f"features/views/{view}/rows", path, data))
        return done.model_copy(update={"doubles": sum(data.left_out.values())})

    def erase(self, entity: str, keys: Mapping[str, Any]) -> Erasure:
        body = {"keys": dict(keys), "group": self._control.group}
        asked = Erasure.model_validate(self._control.post(f"features/entities/{entity}/erase", body))
        deadline = time.monotonic() + _MATERIALIZE_S
        while asked.state == "waiting":
            if time.monotonic() > deadline:
                why = f" ({asked.message})" if asked.message else ""
                raise Unavailable(f"Erasing takes over an hour{why}.", f"It goes on as erasure {asked.id}.")
            time.sleep(0.2)
            with _lost(f"Erasure {asked.id} is on record and goes on when it is back.", _AGAIN):
                asked = Erasure.model_validate(self._control.get(f"features/erasures/{asked.id}"))
        self._sweep(0)
        return asked

    def _send(self, method: str, to: str, path: Path, data: ViewData, **more: str) -> Any:
        params = self._group | {"sha256": data.sha256} | more
        with path.open("rb") as file:
            return self._control.request(method, to, params=params, content=file, timeout_s=_TRANSFER_S).json()

    def put_service(self, service: FeatureService) -> ServiceSpec:
        body = service.model_dump(mode="json")
        return ServiceSpec.model_validate(self._put(f"features/services/{service.name}", body))

    def views(self) -> list[RegisteredView]:
        return _VIEWS.validate_python(self._control.get("features/views", **self._group))

    def view(self, name: str) -> RegisteredView:
        return RegisteredView.model_validate(self._control.get(f"features/views/{name}", **self._group))

    def services(self) -> list[ServiceSpec]:
        return _SERVICES.validate_python(self._control.get("features/services", **self._group))

    def service(self, ref: str) -> ServiceSpec:
        return ServiceSpec.model_validate(self._control.get(f"features/services/{ref}", **self._group))

    def file(self, view: RegisteredView) -> Path:
        if view.data is None:
            raise without_rows(view)
        return self._fetched(view.view.name, "data", view.data.sha256)

    def quarantine(self, view: RegisteredView) -> list[Path]:
        quarantined = view.data.quarantined if view.data else ()
        return [self._fetched(view.view.name, "quarantine", q.sha256) for q in quarantined]

    def poison(self, view: RegisteredView) -> list[PoisonedMessage]:
        return _POISON.validate_python(self._control.get(f"features/views/{view.view.name}/poison", **self._group))

    def _fetched(self, name: str, what: str, sha256: str) -> Path:
        path = self._cache / f"{sha256}.parquet"
        if path.is_file():
            path.touch()  # used
            return path
        self._sweep()
        answer = self._control.request(
            "GET", f"features/views/{name}/{what}", params=self._group | {"sha256": sha256}, timeout_s=_TRANSFER_S
        )
        self._cache.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(".draft", dir=self._cache)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(answer.content)
            if digest_file(Path(draft)) != sha256:
                raise Failed(f"The rows of '{name}' came damaged.", "Run the same command again.")
            return Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)

    def _sweep(self, unused_s: float = _UNUSED_S) -> None:
        """Remove copies of rows that were not used for a while: of rows that are others by now, or were erased."""
        until = time.time() - unused_s
        for copy in self._cache.glob("*.parquet"):
            with suppress(FileNotFoundError):  # another kernel of this home removes them too
                if copy.stat().st_mtime <= until:
                    copy.unlink()

    def materialize(
        self, view: str, since: datetime | None, until: datetime | None, *, full: bool = False, watch: Watch = ignored
    ) -> Materialization:
        body = {
            "full": full,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
            "group": self._control.group,
        }
        run = Materialization.model_validate(self._control.post(f"features/views/{view}/materialize", body))
        deadline, pause = time.monotonic() + _MATERIALIZE_S, 0.05
        while run.state in ("waiting", "running"):
            if time.monotonic() > deadline:
                raise Unavailable(f"Materializing '{view}' takes over an hour.", "It goes on; see %features freshness.")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
            with _lost(f"Materializing '{view}' goes on when it is back.", _AGAIN):
                run = Materialization.model_validate(self._control.get(f"features/materializations/{run.id}"))
            watch(run)
        if run.state == "failed":
            raise Failed(f"Materializing '{view}' failed: {run.message}", "Nothing is half-done: run it again.")
        return run

    def read(
        self,
        ref: str,
        entities: Sequence[Mapping[str, Any]],
        *,
        features: Sequence[str] | None = None,
        history: int | None = None,
    ) -> Answer:
        """By the gateway's read API, as a service of any language does it."""
        import httpx

        url = f"{self._control.discovery.gateway.http}/v2/features/{quote(ref, safe='@')}"
        headers = {"Authorization": f"Bearer {self._control.gateway_token()}", "themisto-timeout-ms": str(_READ_MS)}
        body: dict[str, Any] = {"entities": _columns(entities), "group": self._control.group}
        body |= {name: value for name, value in (("features", features), ("history", history)) if value is not None}
        with map_httpx_errors("gateway"):
            response = httpx.post(url, json=body, headers=headers, timeout=self._timeout_s)
        if response.status_code >= 400:
            raise _problem(response)
        return Answer.model_validate_json(response.content)

    def freshness(self) -> list[Freshness]:
        return _FRESHNESS.validate_python(self._control.get("features/freshness", **self._group))

    @property
    def _group(self) -> dict[str, str]:
        return {"group": self._control.group}

    def _put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._control.request("PUT", path, params=self._group, json=body).json()
        return answer


@contextmanager
def _lost(state: str, remedy: str) -> Iterator[None]:
    """A control plane that goes away in the middle: its error, and how things stand."""
    try:
        yield
    except Unreachable as error:
        raise type(error)(f"{error.detail} {state}", remedy) from error


_AGAIN = "Run the same command again in a moment; doing it twice does no harm."


def _columns(entities: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A column a name. Raises Invalid for entities that have not the same names."""
    names = entities[0].keys() if entities else ()
    for entity in entities:
        if entity.keys() != names:
            differ = ", ".join(sorted(map(str, entity.keys() ^ names)))
            raise Invalid(f"Not all entities have {differ}.", "Give each the same keys.")
    return {name: [entity[name] for entity in entities] for name in names}


def _problem(response: Any) -> Exception:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict) or "detail" not in body:
        return error_for(response.status_code, {"detail": f"The gateway answered HTTP {response.status_code}."})
    return error_for(response.status_code, body)
