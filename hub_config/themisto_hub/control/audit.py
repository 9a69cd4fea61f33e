"""The audit chain: each event carries the hash of the one before it, so that no link can go unnoticed.

An event's hash is SHA-256 over its canonical JSON (sorted keys, no spaces, UTF-8), previous hash
included. The newest hash, the head, is signed (Ed25519) and written outside the database every hour
and at every approval: cutting the chain's end is then noticed too.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import JSON, Integer, String, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from themisto.types import Json, Model, UtcTime
from themisto_hub.control.db import Base, Database, UtcDateTime
from themisto_hub.control.keyfile import load_or_make_ed25519

__all__ = ["Audit", "AuditEvent", "AuditRow", "Verdict"]

GENESIS = "0" * 64
_LOCK = 7_235_001  # advisory lock of the chain on PostgreSQL


class AuditRow(Base):
    """One link, as stored."""

    __tablename__ = "audit_event"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(100))
    object: Mapped[str] = mapped_column(String(300), index=True)
    outcome: Mapped[str] = mapped_column(String(20))
    group_name: Mapped[str | None] = mapped_column(String(100))
    before: Mapped[Any] = mapped_column(JSON, nullable=True)
    after: Mapped[Any] = mapped_column(JSON, nullable=True)
    request_id: Mapped[str | None] = mapped_column(String(64))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))

    def content_hash(self) -> str:
        """SHA-256 over everything but the hash itself."""
        content = {
            "number": self.number,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "action": self.action,
            "object": self.object,
            "outcome": self.outcome,
            "group": self.group_name,
            "before": self.before,
            "after": self.after,
            "request_id": self.request_id,
            "previous_hash": self.previous_hash,
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


Listener = Callable[[Session, AuditRow], None]
"""Hears of each new link inside the transaction that appends it; must be quick and must not raise."""


class AuditEvent(Model):
    """One link, as shown."""

    number: int
    at: UtcTime
    actor: str
    action: str
    object: str
    outcome: str
    group: str | None
    before: Json = None
    after: Json = None
    request_id: str | None
    hash: str


class Verdict(Model):
    """What `verify` found: `broken_at` is the first link that does not hold."""

    events: int
    head: str
    intact: bool
    broken_at: int | None = None
    reason: str = ""


class Audit:
    """Appends to the chain, signs its head and verifies it. Only the control plane appends."""

    def __init__(self, folder: Path, clock: Callable[[], datetime], *listeners: Listener) -> None:
        self._folder = folder
        self._clock = clock
        self._listeners = listeners

    def append(
        self,
        session: Session,
        *,
        actor: str,
        action: str,
        object: str,
        outcome: str = "done",
        group: str | None = None,
        before: Any = None,
        after: Any = None,
        request_id: str | None = None,
    ) -> AuditRow:
        """Add a link inside the caller's transaction: the change and its event are stored together or not at all."""
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        last = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).first()
        row = AuditRow(
            number=last.number + 1 if last else 1,
            at=self._clock(),
            actor=actor,
            action=action,
            object=object,
            outcome=outcome,
            group_name=group,
            before=before,
            after=after,
            request_id=request_id,
            previous_hash=last.hash if last else GENESIS,
        )
        row.hash = row.content_hash()
        session.add(row)
        session.flush()
        for hear in self._listeners:
            hear(session, row)
        return row

    def sign_head(self, session: Session) -> None:
        """Write the signed head outside the database (append-only file, one JSON line a head)."""
        last = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).first()
        if last is None:
            return
        head = f"{last.number}:{last.hash}"
        line = {
            "at": self._clock().isoformat(),
            "head": head,
            "signature": b64encode(self._key().sign(head.encode())).decode(),
        }
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._heads, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def verify(self, session: Session) -> Verdict:
        """Walk the chain from its first link; then hold it against the signed heads."""
        previous, count, hashes = GENESIS, 0, {}
        for row in session.scalars(select(AuditRow).order_by(AuditRow.number)):
            count += 1
            reason = ""
            if row.number != count:
                reason = f"link {count} is missing"
            elif row.previous_hash != previous:
                reason = "it does not follow from the link before it"
            elif row.hash != row.content_hash():
                reason = "its content was changed"
            if reason:
                return Verdict(events=count, head=previous, intact=False, broken_at=count, reason=reason)
            previous = row.hash
            hashes[row.number] = row.hash
        return self._against_heads(count, previous, hashes)

    def _against_heads(self, count: int, head: str, hashes: dict[int, str]) -> Verdict:
        lines = self._heads.read_text().splitlines() if self._heads.exists() else []
        public = self._key().public_key()
        for line in lines:
            entry = json.loads(line)
            number, _, digest = entry["head"].partition(":")
            try:
                public.verify(b64decode(entry["signature"]), entry["head"].encode())
            except InvalidSignature:
                return Verdict(
                    events=count, head=head, intact=False, broken_at=int(number), reason="a head's signature is false"
                )
            if hashes.get(int(number)) != digest:
                reason = "the signed head of that link is another one: the chain was cut or rewritten"
                return Verdict(events=count, head=head, intact=False, broken_at=int(number), reason=reason)
        return Verdict(events=count, head=head, intact=True)

    @property
    def _heads(self) -> Path:
        return self._folder / "heads.jsonl"

    def _key(self) -> Ed25519PrivateKey:
        return load_or_make_ed25519(self._folder / "signing.pem")


def verify_copy(url: str, folder: Path, clock: Callable[[], datetime]) -> Verdict:
    """Verify the chain of another database (a backup, an exported copy) against the same heads."""
    database = Database(url)
    try:
        with database.read() as session:
            return Audit(folder, clock).verify(session)
    finally:
        database.close()
