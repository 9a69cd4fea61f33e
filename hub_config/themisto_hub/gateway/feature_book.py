"""The feature book: what the transformer must know to go on while the control plane is dead.

One JSON file that the control plane writes and the online store's owner process reads on change: all
versions of all services, and who signs callers' tokens.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from themisto.errors import Invalid, NotFound
from themisto.features.nouns import split_ref
from themisto.features.records import ServiceSpec
from themisto.types import Model
from themisto_hub.gateway.put import put

__all__ = ["BOOK", "FeatureBook", "write_book"]

BOOK = "features.json"


class FeatureBook(Model):
    """Services and signers."""

    services: tuple[ServiceSpec, ...] = ()
    jwks: dict[str, Any]
    issuers: tuple[str, ...]
    audience: str = "themisto"

    @cached_property
    def _by_name(self) -> dict[str, dict[str, list[ServiceSpec]]]:
        """Name to group to versions, oldest first."""
        found: dict[str, dict[str, list[ServiceSpec]]] = {}
        for spec in sorted(self.services, key=lambda s: s.version):
            found.setdefault(spec.name, {}).setdefault(spec.group, []).append(spec)
        return found

    def find(self, ref: str, groups: tuple[str, ...]) -> ServiceSpec:
        """The service that `name` or `name@version` means among `groups`. Raises NotFound, or Invalid where two do."""
        name, version = split_ref(ref)
        owned = {g: v for g, v in self._by_name.get(name, {}).items() if g in groups}
        if len(owned) > 1:
            raise Invalid(f"The groups {', '.join(sorted(owned))} each have a '{name}'.", "Send the group.")
        for versions in owned.values():
            for spec in reversed(versions):
                if version in (None, spec.version):
                    return spec
        raise NotFound(f"There is no feature service '{ref}'.", "See the names: %features list.")

    def names(self, groups: tuple[str, ...]) -> list[str]:
        """Services of these groups."""
        return sorted(name for name, by_group in self._by_name.items() if any(g in groups for g in by_group))


def write_book(book: FeatureBook, folder: Path) -> bool:
    """Put the book in place, atomically; False where it says the same already."""
    return put(folder / BOOK, book.model_dump_json())
