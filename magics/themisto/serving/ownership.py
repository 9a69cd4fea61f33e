"""Ownership of names: claim one, hand it to another group, see who calls it, give it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from themisto.errors import Invalid
from themisto.serving.models import Endpoint, EndpointCaller
from themisto.serving.names import is_endpoint_name

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["Ownership"]

_MOVE_S = 120.0


class Ownership:
    """Names of the caller's groups, at the control plane.

    Every method raises Refused where the name is another group's, naming it; Unavailable.
    """

    def __init__(self, control: ControlPlane, status: Callable[[str], Endpoint]) -> None:
        self._control = control
        self._require = status
        """Raises NotFound with the nearest name."""

    def claim(self, name: str) -> Endpoint:
        """Reserve a name for this group, before there is a release. Again, it changes nothing."""
        if not is_endpoint_name(name):
            raise Invalid(f"'{name}' is no endpoint name.", "Use 1 to 48 lower-case letters, digits, - and _.")
        return Endpoint.model_validate(self._control.post(f"endpoints/{name}/claim", {"group": self._control.group}))

    def transfer(self, name: str, to: str) -> Endpoint:
        """Offer a name, its versions and all their releases to another group; one of its members accepts.

        Raises NotFound, Invalid, Conflict while a rollout is on its way.
        """
        self._require(name)
        return Endpoint.model_validate(self._control.put(f"endpoints/{name}/offer", {"group": to}))

    def withdraw(self, name: str) -> Endpoint:
        """Take the offer back. Raises Conflict where there is none."""
        self._require(name)
        return Endpoint.model_validate(self._control.request("DELETE", f"endpoints/{name}/offer").json())

    def accept(self, name: str) -> Endpoint:
        """Take over a name that is offered to a group of the caller's; its code moves to that group's model server.

        Raises Conflict where it is not offered, Failed where the code does not run there.
        """
        answer = self._control.request("POST", f"endpoints/{name}/offer/accept", timeout_s=_MOVE_S)
        return Endpoint.model_validate(answer.json())

    def free(self, name: str) -> None:
        """For admins: give a retired name back to all. Raises Conflict, saying until when it is kept."""
        self._control.request("POST", f"endpoints/{name}/free")

    def callers(self, name: str, *, days: int = 30) -> list[EndpointCaller]:
        """Who was answered by which version of the name in the last `days` (1 to 366), newest first."""
        self._require(name)
        answer = cast("list[Any]", self._control.get(f"endpoints/{name}/callers", days=days))
        return [EndpointCaller.model_validate(one) for one in answer]
