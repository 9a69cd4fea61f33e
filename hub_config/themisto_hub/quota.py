"""Quota: how many servers may run at once, for a person and for a group."""

from __future__ import annotations

import os
from typing import Any

from jupyterhub import orm
from traitlets import Dict, Integer, default
from traitlets.config import Configurable

from themisto_hub.refusal import Refusal

__all__ = ["Quota"]


class Quota(Configurable):
    """Limits that are checked before a server starts; 0 means none. A server that starts again counts once."""

    servers_per_user = Integer(config=True, help="servers of one person at once, jobs left out")
    jobs_per_user = Integer(config=True, help="jobs of one person at once")
    servers_per_group = Dict(Integer(), config=True, help="servers that run for a group at once, jobs included")

    @default("servers_per_user")
    def _servers_per_user(self) -> int:
        return int(os.environ.get("THEMISTO_SERVERS_PER_USER", "5"))

    @default("jobs_per_user")
    def _jobs_per_user(self) -> int:
        return int(os.environ.get("THEMISTO_JOBS_PER_USER", "4"))

    def check(self, spawner: Any, group: str) -> None:
        """Raises Refusal 429 (try again later) when this server would be one too many."""
        others = [s for s in _running(spawner.db) if s is not spawner.orm_spawner]
        mine = [s for s in others if s.user_id == spawner.user.id and s.name.startswith("job-") == spawner.is_job]
        limit, what = (self.jobs_per_user, "jobs") if spawner.is_job else (self.servers_per_user, "servers")
        if limit and len(mine) >= limit:
            raise Refusal(429, f"You have {len(mine)} {what} running, and {limit} are allowed. Stop one first.")
        limit = self.servers_per_group.get(group, 0)
        ours = [s for s in others if _group_of(s) == group]
        if limit and len(ours) >= limit:
            raise Refusal(429, f"The group {group} has {len(ours)} servers running, and {limit} are allowed.")


def _running(db: Any) -> list[Any]:
    found: list[Any] = db.query(orm.Spawner).filter(orm.Spawner.server_id.isnot(None)).all()
    return found


def _group_of(server: Any) -> str:
    options = server.user_options or {}
    groups = sorted(group.name for group in server.user.groups)
    return str(options.get("group") or next(iter(groups), ""))
