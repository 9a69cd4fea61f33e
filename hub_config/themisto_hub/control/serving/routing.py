"""Routing: from the stored state of all endpoints to the one route table that Envoy reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from themisto.errors import ThemistoError
from themisto.serving.models import Endpoint, Personal, Release, triton_name
from themisto_hub.control.context import Control
from themisto_hub.control.serving.fallbacks import stand_ins
from themisto_hub.control.serving.records import release_model, release_row
from themisto_hub.control.serving.tables import EndpointRow, ReleaseRow
from themisto_hub.gateway.personal import KEEPS_LESS, Declared, write_declared
from themisto_hub.gateway.routes import Route, RouteTable, Target, write
from themisto_hub.model_server.infer_key import infer_keys

__all__ = ["Routing"]

_log = logging.getLogger(__name__)


class Routing:
    """Writes the whole table, atomically, and only when it has changed.

    It is made from the database alone: a Triton that is down, or a control plane that has just
    started, never takes a route away.
    """

    def __init__(self, control: Control, address: Callable[[Release], tuple[str, str]]) -> None:
        self._control = control
        self._address = address
        self._written: RouteTable | None = None
        self._lock = threading.Lock()

    def publish(self) -> bool:
        """Write the table if it is not what was written last. Raises what `write` raises."""
        with self._lock:
            table = self.table()
            if table == self._written:
                return False
            write_declared(self._declared(), self._control.settings.xds)
            settings = self._control.settings
            write(table, settings.xds, f"http://127.0.0.1:{settings.ports.envoy_admin}")
            self._written = table
            weights = {route.name: {t.release: t.weight_pct for t in route.releases} for route in table.endpoints}
            _log.info("route table: %s", weights)
            return True

    def put_in_force(self, *told: Endpoint) -> None:
        """Before somebody is told how an endpoint's traffic goes: it goes so. She may ask it at once."""
        written = {} if self._written is None else {route.name: route for route in self._written.endpoints}
        for endpoint in told:
            route = written.get(endpoint.name)
            if _shares(endpoint) != ({} if route is None else {t.release: t.weight_pct for t in route.releases}):
                self.publish_quietly()
                return

    def publish_quietly(self) -> None:
        """As `publish`, for callers whose change is committed: the reconciler repeats what fails."""
        try:
            self.publish()
        except (ThemistoError, OSError, ValueError):
            _log.exception("the route table could not be written; the reconciler tries again")

    def table(self) -> RouteTable:
        """What Envoy must do now."""
        with self._control.db.read() as session:
            query = select(EndpointRow).where(EndpointRow.retired.is_(False), EndpointRow.stable.is_not(None))
            routes = tuple(self._route(session, row) for row in session.scalars(query.order_by(EndpointRow.name)))
        signer, ports = self._control.signer, self._control.settings.ports
        return RouteTable(
            endpoints=routes,
            jwks=signer.jwks,
            issuers=(signer.issuer,),
            transformer_http=f"127.0.0.1:{ports.transformer_http}",
            transformer_grpc=f"127.0.0.1:{ports.transformer_grpc}",
            infer_keys=infer_keys(self._control.settings, self._control.keys),
            default_key=self._control.keys.defaults,
        )

    def _declared(self) -> Declared:
        """Personal columns of all releases there ever were; where two differ, what keeps less counts."""
        query = select(ReleaseRow.endpoint, ReleaseRow.content["personal"])
        found: dict[str, dict[str, Personal]] = {}
        with self._control.db.read() as session:
            for endpoint, personal in session.execute(query):
                columns = found.setdefault(endpoint, {})
                for name, way in (personal or {}).items():
                    columns[name] = max(way, columns.get(name, way), key=KEEPS_LESS.index)
        return Declared(endpoints={endpoint: columns for endpoint, columns in found.items() if columns})

    def _route(self, session: Session, endpoint: EndpointRow) -> Route:
        assert endpoint.stable is not None
        stable = release_model(release_row(session, endpoint.name, endpoint.stable))
        before = release_model(release_row(session, endpoint.name, endpoint.previous)) if endpoint.previous else None
        targets = [self._target(stable, 100 - endpoint.weight_pct, earlier=before)]
        candidate: Release | None = None
        if endpoint.candidate is not None:
            candidate = release_model(release_row(session, endpoint.name, endpoint.candidate))
            shadow = endpoint.strategy == "shadow"
            if shadow:
                targets.append(self._target(candidate, 0, shadow=True))
            else:
                targets.append(self._target(candidate, endpoint.weight_pct, earlier=stable))
        shown = stable if stable.feature_service or candidate is None else candidate
        names, keys = self._features(shown)
        return Route(
            name=endpoint.name,
            group=endpoint.group_name,
            tier=stable.tier,
            feature_service=shown.feature_service,
            feature_names=names,
            keys=keys,
            rate_per_s=stable.serving.rate_per_s,
            releases=tuple(targets),
        )

    def _target(
        self, release: Release, weight_pct: int, *, shadow: bool = False, earlier: Release | None = None
    ) -> Target:
        """A shadow stands for itself alone: what another answers says nothing about it."""
        http, grpc = self._address(release)
        name = triton_name(release.endpoint, release.number)
        return Target(
            release=name,
            weight_pct=weight_pct,
            http=http,
            grpc=grpc,
            shadow=shadow,
            feature_service=release.feature_service,
            feature_group=release.group if release.feature_service else None,
            max_concurrent=release.serving.max_concurrent,
            **({} if shadow else stand_ins(release, earlier, self._address)),
        )

    def _features(self, release: Release) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Feature names and entity keys of the release's service version; none where it cannot be found."""
        if release.feature_service is None:
            return (), ()
        try:
            spec = self._control.features.service_spec(release.feature_service, release.group)
        except ThemistoError:
            _log.exception("%s: its features are not in the route table", release)
            return (), ()
        return tuple(c.name for c in spec.outputs), tuple(key.name for key in spec.keys)


def _shares(endpoint: Endpoint) -> dict[str, int]:
    """In % of the traffic, by release; a shadow has none of it."""
    shares = {endpoint.candidate: endpoint.weight_pct, endpoint.stable: 100 - endpoint.weight_pct}
    return {triton_name(endpoint.name, number): share for number, share in shares.items() if number is not None}
