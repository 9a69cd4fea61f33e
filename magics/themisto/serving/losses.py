"""Losses: lines of the prediction log that never became rows, counted, for whoever asks.

Traffic never waits for the log. Where the disk is full or slow, lines are lost instead: by Envoy, which cannot
write them, or by the tail, which gives up what has piled up. Either way it is said here.
"""

from __future__ import annotations

from pydantic import NonNegativeInt

from themisto.types import Model, UtcTime, utcnow

__all__ = ["LogLosses"]


class LogLosses(Model):
    """Since the log began. All zero: nothing was lost."""

    dropped_lines: NonNegativeInt = 0
    """Given up because Parquet could not keep pace."""
    unreadable_lines: NonNegativeInt = 0
    """Cut or garbled: what a full disk leaves of a line."""
    failed_writes: NonNegativeInt = 0
    """Envoy's: each loses the lines of half a second."""
    last_at: UtcTime | None = None

    @property
    def any(self) -> bool:
        return bool(self.dropped_lines or self.unreadable_lines or self.failed_writes)

    def __str__(self) -> str:
        parts = [
            f"{self.dropped_lines:,} lines given up" if self.dropped_lines else "",
            f"{self.unreadable_lines:,} lines unreadable" if self.unreadable_lines else "",
            f"{self.failed_writes:,} writes of Envoy failed" if self.failed_writes else "",
        ]
        told = ", ".join(part for part in parts if part)
        return f"{told}; last at {self.last_at:%Y-%m-%d %H:%M} UTC" if told and self.last_at else told or "nothing lost"

    def plus(self, **more: int) -> LogLosses:
        """With more of each, now."""
        counts = {name: getattr(self, name) + number for name, number in more.items()}
        return self.model_copy(update={**counts, "last_at": utcnow()}) if any(more.values()) else self
