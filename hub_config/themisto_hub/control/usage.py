"""What groups use and what it costs: running servers are counted each minute, priced by their profile."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal

from sqlalchemy import Float, String, func, select
from sqlalchemy.orm import Mapped, mapped_column

from themisto.errors import ThemistoError
from themisto.profiles import Profile
from themisto.types import Model
from themisto_hub.control.context import Control
from themisto_hub.control.db import Base
from themisto_hub.control.idempotency import forget_old
from themisto_hub.profiles import load_profiles

__all__ = ["BudgetLine", "budget", "profile_of", "profiles_for", "run"]

_EVERY_S = 60.0
_HEADS_EVERY = 60  # minutes between two signed heads
_log = logging.getLogger(__name__)


class UsageRow(Base):
    """Seconds that a person's servers ran on a profile in a month, for a group."""

    __tablename__ = "usage"

    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(100), primary_key=True)
    profile: Mapped[str] = mapped_column(String(100), primary_key=True)
    user_name: Mapped[str] = mapped_column(String(200), primary_key=True)
    seconds: Mapped[float] = mapped_column(Float)


class BudgetLine(Model):
    """Use of one profile by one group in the current month."""

    group: str
    profile: str
    hours: float
    cost: Decimal


def profiles_for(control: Control, groups: tuple[str, ...]) -> list[Profile]:
    """The profiles that a member of `groups` may use."""
    return [p for p in load_profiles(control.settings.profiles_dir) if set(p.groups) & set(groups)]


def profile_of(control: Control, user: str, server: str) -> str | None:
    """The profile that a person's server ('' for the default one) runs on; None where the hub cannot say now."""
    try:
        servers = control.hub.user(user).get("servers") or {}
    except ThemistoError:
        return None
    profile = ((servers.get(server) or {}).get("user_options") or {}).get("profile")
    return profile if isinstance(profile, str) else None


def budget(control: Control, groups: tuple[str, ...]) -> list[BudgetLine]:
    """Hours and cost of this month, a line for each of the caller's groups and profile."""
    prices = {p.name: Decimal(p.price_per_hour) for p in load_profiles(control.settings.profiles_dir)}
    query = (
        select(UsageRow.group_name, UsageRow.profile, func.sum(UsageRow.seconds))
        .where(UsageRow.month == f"{control.clock():%Y-%m}", UsageRow.group_name.in_(groups))
        .group_by(UsageRow.group_name, UsageRow.profile)
        .order_by(UsageRow.group_name, UsageRow.profile)
    )
    with control.db.read() as session:
        rows = session.execute(query).all()
    return [
        BudgetLine(
            group=group,
            profile=profile,
            hours=round(seconds / 3600, 4),
            cost=(prices.get(profile, Decimal(0)) * Decimal(seconds) / 3600).quantize(Decimal("0.0001")),
        )
        for group, profile, seconds in rows
    ]


async def run(control: Control) -> None:
    """Count running servers each minute; each hour sign the audit head and drop old answers."""
    minute = 0
    while True:
        try:
            await asyncio.to_thread(_count, control)
            if minute % _HEADS_EVERY == 0:
                await asyncio.to_thread(_hourly, control)
        except ThemistoError as error:
            _log.warning("usage was not counted: %s", error)
        minute += 1
        await asyncio.sleep(_EVERY_S)


def _count(control: Control) -> None:
    servers = [
        (user["name"], user.get("groups") or [], server.get("user_options") or {})
        for user in control.hub.users()
        for server in (user.get("servers") or {}).values()
        if server.get("ready")
    ]
    if not servers:
        return
    month = f"{control.clock():%Y-%m}"
    with control.db.write() as session:
        for name, groups, options in servers:
            group = options.get("group") or next(iter(sorted(groups)), "")
            key = (month, group, str(options.get("profile") or "default"), name)
            row = session.get(UsageRow, key)
            if row is None:
                row = UsageRow(month=key[0], group_name=key[1], profile=key[2], user_name=key[3], seconds=0.0)
                session.add(row)
            row.seconds += _EVERY_S


def _hourly(control: Control) -> None:
    with control.db.read() as session:
        control.audit.sign_head(session)
    forget_old(control)
