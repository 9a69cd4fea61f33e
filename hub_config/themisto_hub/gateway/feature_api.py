"""The read API of features: one request, whatever its wire, and what was read for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from themisto.errors import Invalid, NotFound, Refused, did_you_mean
from themisto.features.reading import MAX_ENTITIES
from themisto.features.readings import Reading, asked_for, reading, request_of
from themisto.features.records import ServiceSpec
from themisto.types import Model, utcnow
from themisto_hub.gateway.feature_callers import GatewayCaller
from themisto_hub.gateway.feature_reads import FeatureReads

__all__ = ["LONGEST_S", "SCOPE", "FeatureApi", "ReadRequest"]

SCOPE = "features:read"
LONGEST_S = 10.0
"""As long as the gateway lets any request be."""


class ReadRequest(Model):
    """Body of `POST /v2/features/{service}`.

    entities: a column a key, and one for each value that on-demand features are computed of.
    features: only these, in this order. history: so many last values of each entity, not only the newest.
    group: whose service it is, where several of the caller's groups have one of the name.
    """

    entities: Annotated[Mapping[str, list[Any]], Field(max_length=100)]
    features: list[str] | None = None
    history: int | None = None
    group: str | None = None


class FeatureApi:
    """Reads services for callers, on the way of predictions by key. deadline_s: for who says none."""

    def __init__(self, reads: FeatureReads, deadline_s: float) -> None:
        self._reads = reads
        self._deadline_s = deadline_s

    async def read(
        self, ref: str, request: ReadRequest, caller: GatewayCaller, *, patience_s: float | None = None
    ) -> Reading:
        """What is online now of the entities of a service, `name` or `name@version`, of the caller's groups.

        patience_s: how long the caller waits, if he says.
        Raises Refused, NotFound, Invalid, Late, Unavailable: each says which name, key or view it is about.
        """
        began = time.monotonic()
        limit_s = self._deadline_s if patience_s is None else min(patience_s, LONGEST_S)
        caller.require(SCOPE)
        spec = self._spec(ref, request.group, caller)
        _check_columns(spec, request.entities)
        asked = asked_for(spec, request.features, request.history, request.entities, plan=self._reads.plan)
        names = request.entities.keys()
        entities = [dict(zip(names, row, strict=True)) for row in zip(*request.entities.values(), strict=True)]
        if asked.history is not None:
            return await self._reads.read_last(asked, entities, limit_s)
        at = utcnow()
        found = await self._reads.read(asked.plan, entities, limit_s)
        if asked.computed and entities:
            left_s = max(0.0, limit_s - (time.monotonic() - began))
            found = await self._reads.compute(spec, found, request_of(spec, entities), limit_s=left_s)
        return reading(asked, found, at)

    def _spec(self, ref: str, group: str | None, caller: GatewayCaller) -> ServiceSpec:
        if group is not None and group not in caller.groups:
            raise Refused(
                f"{caller.name} is not in the group '{group[:60]}'.", "Send one of the token's groups, or none."
            )
        groups = caller.groups if group is None else (group,)
        try:
            return self._reads.spec(ref, groups)
        except NotFound as error:
            name = ref.partition("@")[0]
            known = self._reads.book.value.names(groups)
            raise NotFound(error.detail, did_you_mean(name, known, error.remedy)) from error


def _check_columns(spec: ServiceSpec, columns: Mapping[str, list[Any]]) -> None:
    """Raises Invalid for columns that are not the service's, not of one length, or too long."""
    keys = [k.name for k in spec.keys]
    known = [*keys, *(c.name for c in spec.request)]
    unknown = [name for name in columns if name not in known]
    lacking = [name for name in keys if name not in columns]
    said = f"{spec.ref} is read by {', '.join(keys)}."
    if unknown:
        raise Invalid(f"The entities have the unknown key {unknown[0][:60]!r}.", did_you_mean(unknown[0], known, said))
    if lacking:
        raise Invalid(f"The entities lack the key {', '.join(lacking)}.", said)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise Invalid(f"The keys are of different lengths: {told}.", "Send one value a key and entity.")
    if lengths[keys[0]] > MAX_ENTITIES:
        raise Invalid(f"{lengths[keys[0]]:,} entities in one request.", f"Ask for at most {MAX_ENTITIES:,}.")
