"""Where the read API of features answers, over either wire."""

from __future__ import annotations

__all__ = ["READ_METHOD", "READ_PATH"]

READ_PATH = "/v2/features/"
"""Before the service's name."""
READ_METHOD = "/themisto.features.v2.Features/Read"
"""As features.proto names it."""
