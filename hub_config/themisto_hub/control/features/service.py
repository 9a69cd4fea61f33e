"""Features at the control plane: registry, offline rows, materialization, and what other rooms ask for."""

from __future__ import annotations

import logging
from functools import cached_property

from themisto.features.records import ServiceSpec
from themisto_hub.control.context import Control
from themisto_hub.control.features import lookup
from themisto_hub.control.features.erasing import Erasing
from themisto_hub.control.features.layers import Layers
from themisto_hub.control.features.lookup import service_spec
from themisto_hub.control.features.materializing import Materializing
from themisto_hub.control.features.online import OnlineWriter
from themisto_hub.control.features.overview import Overview
from themisto_hub.control.features.pushing import Pushing
from themisto_hub.control.features.quarantining import Quarantining
from themisto_hub.control.features.registry import Registry
from themisto_hub.control.features.rows import Rows
from themisto_hub.control.features.streaming import Streaming
from themisto_hub.gateway.feature_book import FeatureBook, write_book

__all__ = ["Features", "service_spec"]

_log = logging.getLogger(__name__)


class Features:
    """The room's parts over one database, one offline store and one online store."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.registry = Registry(control, self.publish_quietly)

    @cached_property
    def rows(self) -> Rows:
        return Rows(self._control)

    @cached_property
    def materializing(self) -> Materializing:
        return Materializing(self._control, self.rows, self._online, self.quarantining)

    @cached_property
    def layers(self) -> Layers:
        return Layers(self._control, self.rows, self.erasing)

    @cached_property
    def quarantining(self) -> Quarantining:
        return Quarantining(self._control, self.rows, self.layers)

    @cached_property
    def pushing(self) -> Pushing:
        return Pushing(self._control, self.rows, self.layers, self._online)

    @cached_property
    def streaming(self) -> Streaming:
        return Streaming(self._control, self.pushing)

    @cached_property
    def overview(self) -> Overview:
        return Overview(self._control, self.rows)

    @cached_property
    def erasing(self) -> Erasing:
        return Erasing(self._control, self.rows, self._online)

    @cached_property
    def _online(self) -> OnlineWriter:
        return OnlineWriter(self._control)

    def service_spec(self, ref: str, group: str | None = None) -> ServiceSpec:
        """For other rooms: the service that `name@version` means in `group`. Raises NotFound."""
        with self._control.db.read() as session:
            return service_spec(session, ref, group)

    def publish(self) -> bool:
        """Write the feature book if it has changed."""
        with self._control.db.read() as session:
            services = tuple(lookup.specs(session, newest=False))
        signer = self._control.signer
        book = FeatureBook(services=services, jwks=signer.jwks, issuers=(signer.issuer,))
        return write_book(book, self._control.settings.xds)

    def publish_quietly(self) -> None:
        """As `publish`, for callers whose change is committed: the worker repeats what fails."""
        try:
            self.publish()
        except OSError:
            _log.exception("the feature book could not be written; the worker tries again")
