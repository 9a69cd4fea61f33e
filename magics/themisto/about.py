"""What `%themisto` tells: status, who you are, profiles, budget, doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from themisto.display import Card, Table

if TYPE_CHECKING:
    from themisto.workbench import Workbench

__all__ = ["About"]

_NO_ISOLATION = "no isolation, limits advisory"


class About:
    """Facts about the workbench and the caller; each method returns its display."""

    def __init__(self, wb: Workbench) -> None:
        self._wb = wb

    def status(self) -> Card:
        """Where this kernel is connected; in a notebook without a workbench, what works there."""
        from themisto import __version__

        settings = self._wb.settings
        if settings.embedded:
            return Card(
                f"themisto {__version__}, on its own",
                {"files": settings.home, "works": ["track", "features", "pipeline"]},
                "deploy and schedule need a workbench: set THEMISTO_URL.",
            )
        found = self._wb.control.discovery
        facts = {"control plane": self._wb.control.url, "gateway": found.gateway.http, "tracking": found.tracking}
        facts |= {"you": self._wb.control.whoami["name"], "group": self._wb.control.group}
        return Card(f"themisto {found.version}", facts, _NO_ISOLATION if found.isolation == "none" else "")

    def whoami(self) -> Card:
        me = self._wb.control.whoami
        return Card(me["name"], {"groups": me["groups"], "group": self._wb.control.group, "may": me["scopes"]})

    def profiles(self) -> Table:
        """The profiles the caller may use."""
        rows = cast("list[dict[str, Any]]", self._wb.control.get("profiles"))
        return Table(
            ["profile", "what", "cpu", "memory_gib", "gpu", "per hour"],
            [[r["name"], r["description"], r["cpu"], r["memory_gib"], r["gpu"], r["price_per_hour"]] for r in rows],
        )

    def budget(self) -> Table:
        """What the caller's groups have used this month."""
        rows = cast("list[dict[str, Any]]", self._wb.control.get("budget"))
        return Table(
            ["group", "profile", "hours", "cost"],
            [[r["group"], r["profile"], r["hours"], r["cost"]] for r in rows],
            title="This month",
            empty="nothing used yet",
        )

    def doctor(self) -> Table:
        """Whether each service answers, as the control plane sees it."""
        rows = cast("list[dict[str, Any]]", self._wb.control.get("health"))
        return Table(["service", "state", "detail"], [[r["service"], r["state"], r["detail"]] for r in rows])
