"""The errors a person can meet, each with what happened and what to do.

    ThemistoError
    ├── Invalid        the request itself is wrong                      (HTTP 422)
    │   ├── ParityError    the export does not answer as the model does
    │   └── TooLarge       more than one request may hold               (HTTP 413)
    ├── NotFound       no such endpoint, service, profile, variable …   (HTTP 404)
    ├── Refused        you may not do this                              (HTTP 403)
    │   └── Unauthenticated    nobody vouches for the caller            (HTTP 401)
    ├── Conflict       it clashes with what is there                    (HTTP 409)
    ├── Unavailable    a service does not answer                        (HTTP 503)
    │   └── Late           not within the time that the caller gave it  (HTTP 504)
    ├── Failed         it was tried and did not work                    (HTTP 500)
    └── MissingSetting a verb needs a setting that is not there         (HTTP 422)

Adapters turn the tree into `UsageError` (magics), problem+json (HTTP) and an exit code (CLI),
in one place each. `status` is the HTTP status, `slug` the last part of the problem's type URI.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar

__all__ = [
    "Conflict",
    "Failed",
    "Invalid",
    "Late",
    "MissingSetting",
    "NotFound",
    "ParityError",
    "Refused",
    "ThemistoError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "did_you_mean",
    "error_for",
]


class ThemistoError(Exception):
    """Base of all errors; `detail` says what happened, `remedy` what to do about it."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"

    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()


class Invalid(ThemistoError):
    """The request is wrong in itself; trying again changes nothing."""

    status = 422
    slug = "invalid"


class ParityError(Invalid):
    """The exported model does not answer as the original does on the sample."""

    slug = "parity"


class TooLarge(Invalid):
    """The request holds more than one may."""

    status = 413
    slug = "too-large"


class MissingSetting(Invalid):
    """A verb needs a setting (usually THEMISTO_URL) that this process does not have."""

    slug = "missing-setting"


class NotFound(ThemistoError):
    """The thing named does not exist, or the caller may not know that it does."""

    status = 404
    slug = "not-found"


class Refused(ThemistoError):
    """The caller may not do this."""

    status = 403
    slug = "refused"


class Unauthenticated(Refused):
    """Nobody vouches for the caller."""

    status = 401
    slug = "unauthenticated"


class Conflict(ThemistoError):
    """It clashes with what is already there."""

    status = 409
    slug = "conflict"


class Unavailable(ThemistoError):
    """A service does not answer; the same request may go through later."""

    status = 503
    slug = "unavailable"


class Late(Unavailable):
    """The answer was not there within the time that the caller gave it."""

    status = 504
    slug = "late"


class Failed(ThemistoError):
    """It was tried and did not work; `detail` carries the cause."""

    slug = "failed"


_ALL: tuple[type[ThemistoError], ...] = (
    Invalid,
    ParityError,
    TooLarge,
    MissingSetting,
    NotFound,
    Refused,
    Unauthenticated,
    Conflict,
    Unavailable,
    Late,
    Failed,
)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", *, cutoff: float = 0.6) -> str:
    """The remedy for a name that is not there: the nearest that is, or `otherwise` where none is near.

    >>> did_you_mean("credt", ["credit", "fraud"])
    'Did you mean credit?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"Did you mean {near[0]}?" if near else otherwise


def error_for(status: int, problem: Mapping[str, object]) -> ThemistoError:
    """The error that an RFC 9457 problem document stands for.

    >>> error_for(404, {"type": "urn:themisto:not-found", "detail": "No endpoint 'x'."})
    NotFound("No endpoint 'x'.")
    """
    slug = str(problem.get("type", "")).rpartition(":")[2]
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    remedy = str(problem.get("remedy") or "")
    for kind in _ALL:
        if kind.slug == slug:
            return kind(detail, remedy)
    for kind in _ALL:
        if kind.status == status:
            return kind(detail, remedy)
    return Failed(detail, remedy) if status >= 500 else Invalid(detail, remedy)
