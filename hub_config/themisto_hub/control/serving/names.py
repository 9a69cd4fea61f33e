"""Names: claimed by a group, handed over in two steps, opened in versions, and given back when long retired.

A name and its versions (`credit`, `credit.v2`) have one owner. A name that was given back keeps its row
and its history, belongs to nobody (`group_name` is empty), and counts its releases on when it is claimed
again; `created_at` is the present owner's claim, and what is older is not shown to her.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from themisto.errors import Conflict, Invalid, NotFound, Refused
from themisto.serving.models import Endpoint
from themisto.serving.names import base_of, version_name, version_of
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.changes import Changes
from themisto_hub.control.serving.guard import recorded_refusals, require_owner
from themisto_hub.control.serving.records import active_rollout, endpoint_row
from themisto_hub.control.serving.tables import EndpointRow, OfferRow

__all__ = ["Names", "claimed"]


class Names:
    """Who owns a name, and how that changes. Each step and each refusal is one audit event."""

    def __init__(self, control: Control, changes: Changes) -> None:
        self._control = control
        self._changes = changes

    def claim(self, caller: Caller, name: str, group: str) -> Endpoint:
        """Reserve `name` for a group of the caller's; nothing answers under it yet. Again, it changes nothing.

        Raises Refused (another group's, or no right to deploy), Invalid for a version's name.
        """
        if version_of(name) > 1:
            raise Invalid(f"'{name}' is a version, not a name.", f"Claim '{base_of(name)}': its versions belong to it.")
        with self._writing(caller, "endpoint.claim", name) as session:
            caller.require_group(group)
            claimed(self._control, session, caller, name, group)
        return self._changes.tell(name)

    def open_version(self, caller: Caller, name: str) -> Endpoint:
        """The endpoint of the next version, for a release that callers of this one cannot follow.

        One that was opened before and never answered is given again. Raises NotFound, Refused,
        Conflict where there is nothing yet to have a version beside.
        """
        base = base_of(name)
        with self._writing(caller, "endpoint.version", name) as session:
            owner = endpoint_row(session, base, lock=True)
            require_owner(caller, owner)
            versions = {version_of(row.name): row for row in session.scalars(_family(base))}
            newest = versions[max(versions)]
            if newest is owner and owner.stable is None and not owner.retired:
                raise Conflict(f"'{base}' has no release that answers.", f"Deploy to '{base}', without --new-version.")
            if newest is owner or newest.stable is not None or newest.retired:
                opened = version_name(base, max(versions) + 1)
                _claim(self._control, session, caller, opened, owner.group_name, action="endpoint.version")
            else:
                opened = newest.name
        return self._changes.tell(opened)

    def offer(self, caller: Caller, name: str, to_group: str) -> Endpoint:
        """Offer the name, its versions and all releases to another group; nothing changes until it accepts.

        Raises NotFound, Refused, Invalid, Conflict while a rollout is on its way.
        """
        _require_base(name)
        with self._writing(caller, "endpoint.offer", name) as session:
            row = endpoint_row(session, name, lock=True)
            require_owner(caller, row)
            if to_group == row.group_name:
                raise Invalid(f"'{name}' belongs to '{to_group}' already.", "Name another group: --to GROUP.")
            self._require_takers(to_group)
            _require_rest(session, name)
            session.merge(OfferRow(endpoint=name, to_group=to_group, by=caller.name, at=self._control.clock()))
            self._audit(session, caller, "endpoint.offer", row, {"to": to_group})
        return self._changes.tell(name)

    def withdraw(self, caller: Caller, name: str) -> Endpoint:
        """Take an offer back. Raises NotFound, Refused, Conflict where there is none."""
        with self._writing(caller, "endpoint.withdraw", name) as session:
            row = endpoint_row(session, name, lock=True)
            require_owner(caller, row)
            offer = _offer(session, name)
            self._audit(session, caller, "endpoint.withdraw", row, {"to": offer.to_group})
            session.delete(offer)
        return self._changes.tell(name)

    def offered(self, caller: Caller, name: str) -> str | None:
        """The group that may take the name over, if the caller may accept for it and nothing is on its way."""
        with self._control.db.read() as session:
            offer = session.get(OfferRow, name)
            if offer is None or offer.to_group not in caller.groups or "deploy" not in caller.scopes:
                return None
            busy = any(active_rollout(session, row.name) for row in session.scalars(_family(name)))
            return None if busy else offer.to_group

    def accept(self, caller: Caller, name: str) -> Endpoint:
        """Take over what was offered to a group of the caller's; from now on its members may call.

        Releases keep their history and authors. Raises NotFound, Refused, Conflict where nothing is
        offered or a rollout is on its way.
        """
        _require_base(name)
        with self._writing(caller, "endpoint.transfer", name) as session:
            row = endpoint_row(session, name, lock=True)
            offer = _offer(session, name)
            if offer.to_group not in caller.groups:
                raise Refused(f"'{name}' is offered to another group.", "A member of that group accepts it.")
            _require_rest(session, name)
            before, now = {"group": row.group_name}, self._control.clock()
            for version in session.scalars(_family(name).with_for_update()):
                version.group_name, version.updated_at = offer.to_group, now
            session.delete(offer)
            after = {"group": offer.to_group, "offered_by": offer.by}
            self._audit(session, caller, "endpoint.transfer", row, after, before=before)
        return self._changes.tell(name)

    def free(self, caller: Caller, name: str) -> None:
        """Give a retired name back, so that any group may claim it. For admins, after the grace period.

        Raises NotFound, Refused, Conflict while something of it answers or it was retired lately.
        """
        _require_base(name)
        days = self._control.settings.name_grace_days
        with self._writing(caller, "endpoint.free", name, scope="admin") as session:
            row = endpoint_row(session, name, lock=True)
            family = session.scalars(_family(name).with_for_update()).all()
            in_use = [version.name for version in family if not version.retired]
            if in_use:
                raise Conflict(f"{', '.join(in_use)} is not retired.", f"Its group first runs %deploy retire {name}.")
            until = max(version.retired_at or version.updated_at for version in family) + timedelta(days=days)
            if self._control.clock() < until:
                raise Conflict(
                    f"'{name}' stays with its group for {days} days after it was retired, until {until:%Y-%m-%d}.",
                    "Callers who come back late must not meet a stranger's model: wait until then.",
                )
            self._audit(session, caller, "endpoint.free", row, {"group": None}, before={"group": row.group_name})
            session.execute(delete(OfferRow).where(OfferRow.endpoint == name))
            for version in family:
                version.group_name, version.updated_at = "", self._control.clock()

    def _require_takers(self, group: str) -> None:
        """Somebody must be able to accept. Raises NotFound for a group whose members cannot deploy, or a typo."""
        settings = self._control.settings
        takers = sorted((settings.allowed_groups - settings.approver_groups) | settings.admin_groups)
        if group not in takers:
            near = difflib.get_close_matches(group, takers, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(takers)}."
            raise NotFound(f"There is no group '{group}' that can take a name over.", hint)

    @contextmanager
    def _writing(self, caller: Caller, action: str, name: str, *, scope: str = "deploy") -> Iterator[Session]:
        try:
            with (
                recorded_refusals(self._control, caller, action, f"endpoint/{name}"),
                self._control.db.write() as session,
            ):
                caller.require(scope)
                yield session
        except IntegrityError as error:  # another person made the same name at the same moment
            raise Conflict(f"'{name}' changed at the same moment.", "Run the same command again.") from error

    def _audit(
        self,
        session: Session,
        caller: Caller,
        action: str,
        row: EndpointRow,
        after: Mapping[str, str | None],
        *,
        before: Mapping[str, str] | None = None,
    ) -> None:
        self._control.audit.append(
            session,
            actor=caller.name,
            action=action,
            object=f"endpoint/{row.name}",
            group=row.group_name,
            before=before and dict(before),
            after=dict(after),
            request_id=caller.request_id,
        )


def claimed(control: Control, session: Session, caller: Caller, name: str, group: str) -> EndpointRow:
    """The endpoint, to be changed; claimed for `group` where it is nobody's. Inside the caller's transaction.

    Raises Refused where another group owns it, NotFound for a version that was not opened.
    """
    row = session.get(EndpointRow, name, with_for_update=True)
    if row is not None and row.group_name:
        require_owner(caller, row)
        if row.group_name != group:
            raise Refused(
                f"The endpoint '{name}' belongs to the group '{row.group_name}', not '{group}'.",
                "Deploy for that group, or choose another name.",
            )
        return row
    if version_of(name) > 1:
        base = base_of(name)
        raise NotFound(f"There is no version '{name}'.", f"Open one beside '{base}': %%deploy {base} --new-version.")
    return _claim(control, session, caller, name, group, action="endpoint.claim")


def _claim(control: Control, session: Session, caller: Caller, name: str, group: str, *, action: str) -> EndpointRow:
    now = control.clock()
    row = session.get(EndpointRow, name) or EndpointRow(name=name)
    row.group_name, row.tier, row.demo = group, "dev", False  # the first release says the tier
    row.weight_pct, row.retired, row.retired_at = 0, False, None
    row.created_at = row.updated_at = now
    session.add(row)
    session.flush()
    control.audit.append(
        session,
        actor=caller.name,
        action=action,
        object=f"endpoint/{name}",
        group=group,
        after={"group": group},
        request_id=caller.request_id,
    )
    return row


def _family(base: str) -> Select[EndpointRow]:
    """The name and its versions, in one order for all writers."""
    mine = or_(EndpointRow.name == base, EndpointRow.name.startswith(f"{base}.v", autoescape=True))
    return select(EndpointRow).where(mine).order_by(EndpointRow.name)


def _offer(session: Session, name: str) -> OfferRow:
    offer = session.get(OfferRow, name)
    if offer is None:
        raise Conflict(f"'{name}' is offered to nobody.", f"Its group offers it: %deploy transfer {name} --to GROUP.")
    return offer


def _require_base(name: str) -> None:
    if version_of(name) > 1:
        raise Invalid(f"'{name}' goes with its name and all versions.", f"Name '{base_of(name)}'.")


def _require_rest(session: Session, base: str) -> None:
    for row in session.scalars(_family(base)):
        busy = active_rollout(session, row.name)
        if busy is not None:
            raise Conflict(
                f"{row.name}@{busy.release} is on its way ({busy.state.replace('_', ' ')}).",
                f"First %deploy promote {row.name} or %deploy rollback {row.name}.",
            )
