"""One request by entity key, whatever its wire: the release, its inputs, the features that fill them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from themisto.errors import NotFound, Unavailable
from themisto.features.records import ServiceSpec
from themisto_hub.gateway.feature_callers import GatewayCaller
from themisto_hub.gateway.feature_entities import Tensor, entities_of, missing_policy, tensors_for
from themisto_hub.gateway.feature_files import Watched
from themisto_hub.gateway.feature_policy import instead
from themisto_hub.gateway.feature_reads import FeatureReads, age_s
from themisto_hub.gateway.feature_table import FeatureRelease, FeatureTable
from themisto_hub.gateway.feature_tritons import Tritons

__all__ = ["Filled", "Lookup"]

_METADATA_S = 5.0
_METADATA_KEPT = 1000


@dataclass(frozen=True)
class Filled:
    """The tensors to add to a request, and what to say in the answer's headers."""

    tensors: list[tuple[Tensor, list[Any]]]
    rows: int
    headers: dict[str, str]


class Lookup:
    """Releases by name, their inputs as Triton has them, and features by key."""

    def __init__(self, reads: FeatureReads, table: Watched[FeatureTable], tritons: Tritons) -> None:
        self._reads = reads
        self._table = table
        self._tritons = tritons
        self._inputs: dict[tuple[str, str], list[Tensor]] = {}

    def release(self, header: str, caller: GatewayCaller) -> tuple[str, FeatureRelease, ServiceSpec]:
        """What `x-release` names: `credit--7`, or as people write it, `credit@7`.

        Raises NotFound, or Refused where the caller may not call its endpoint.
        """
        name = header.replace("@", "--")
        found = self._table.value.releases.get(name)
        if found is None and self._table.refresh():
            found = self._table.value.releases.get(name)
        if found is None:
            raise NotFound(f"The release '{header}' is not asked by entity key.", "Send every feature of the model.")
        caller.require_endpoint(found.endpoint, found.group)
        return name, found, self._reads.spec(found.feature_service, (found.feature_group or found.group,))

    async def inputs(self, name: str, release: FeatureRelease) -> list[Tensor]:
        """The model's inputs. A release never changes, so Triton is asked once."""
        known = self._inputs.get((name, release.http))
        if known is None:
            known = await self._ask(name, release)
            if len(self._inputs) >= _METADATA_KEPT:
                self._inputs.clear()
            self._inputs[name, release.http] = known
        return known

    async def _ask(self, name: str, release: FeatureRelease) -> list[Tensor]:
        answer = await self._tritons.get(release.http, f"/v2/models/{name}", timeout_s=_METADATA_S)
        if answer.status != 200:
            raise Unavailable(f"The release {name} is not loaded.", "Try again in a moment.")
        found = json.loads(answer.body)["inputs"]
        return [Tensor(name=i["name"], datatype=i["datatype"], shape=tuple(map(int, i["shape"]))) for i in found]

    async def fill(
        self,
        name: str,
        release: FeatureRelease,
        spec: ServiceSpec,
        keys: Mapping[str, Sequence[Any]],
        given: frozenset[str],
        *,
        within_s: float | None = None,
    ) -> Filled:
        """Tensors for every input that is not `given`, for the rows of `keys`.

        within_s: what is left of the caller's deadline. Raises Unavailable where features cannot be read in time
        and the service refuses that.
        """
        wanted = await self.inputs(name, release)
        entities = entities_of(spec.keys, keys)
        headers = {"x-release": "@".join(name.rsplit("--", 1)), "x-feature-service": spec.ref}
        try:
            found = await self._reads.find(spec, entities, within_s=within_s)
        except Unavailable as error:
            found = instead(spec, entities, self._reads.last, Unavailable(error.detail, error.remedy))
            headers["x-feature-policy"] = spec.on_missing
        missing_policy(spec, found, entities)
        if found.incomplete:
            headers["x-feature-policy"] = spec.on_missing
        age = age_s(found)
        if age is not None:
            headers["x-feature-age-s"] = f"{age:.3f}"
        if spec.on_demand:
            found = await self._reads.compute(spec, found, keys, within_s=within_s)
        return Filled(tensors_for(spec, found, wanted, given), len(entities), headers)
