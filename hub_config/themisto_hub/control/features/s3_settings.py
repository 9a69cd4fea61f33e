"""How a bucket of S3 is reached: `s3://bucket/prefix?…`, and AWS's own variables for what may be in no URL."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from themisto.errors import MissingSetting

if TYPE_CHECKING:
    from pyarrow import fs

__all__ = ["S3Settings"]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Settings:
    """A bucket and how to reach it. What is not in the URL, and all credentials, is in AWS's own variables or files."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    virtual: bool = False
    ca: str | None = None
    timeout_s: float = 10.0
    cache_gib: float = 20.0

    @classmethod
    def from_url(cls, url: str) -> S3Settings:
        """From `s3://bucket/prefix?…`. Raises MissingSetting, without repeating what may be a secret."""
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise _wrong("holds a name or a password", "Leave it out; set AWS_ACCESS_KEY_ID … or give the host a role.")
        prefix = parts.path.strip("/")
        if not _BUCKET.fullmatch(parts.netloc) or any(p in {"", ".", ".."} for p in prefix.split("/") if prefix):
            raise _wrong("names no bucket and prefix", "Write s3://bucket/prefix.")
        said = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        known = {"region", "endpoint", "addressing", "ca", "timeout_s", "cache_gib"}
        if parts.fragment or not said.keys() <= known:
            raise _wrong("says what it may not say", f"Say no more than {', '.join(sorted(known))}.")
        addressing = said.get("addressing", "path" if _endpoint(said) else "virtual")
        if addressing not in {"path", "virtual"}:
            raise _wrong("has an unknown addressing", "It is path or virtual.")
        return cls(
            parts.netloc,
            prefix,
            said.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            _endpoint(said),
            addressing == "virtual",
            said.get("ca") or os.environ.get("AWS_CA_BUNDLE"),
            _positive(said, "timeout_s", cls.timeout_s),
            _positive(said, "cache_gib", cls.cache_gib),
        )

    def opened(self) -> fs.S3FileSystem:
        """The bucket's service, as Arrow speaks to it: three attempts for each request."""
        from pyarrow import fs

        endpoint = urlsplit(self.endpoint) if self.endpoint else None
        options: dict[str, Any] = {
            "region": self.region,
            "scheme": endpoint.scheme if endpoint else "https",
            "endpoint_override": endpoint.netloc if endpoint else None,
            "force_virtual_addressing": self.virtual,
            "tls_ca_file_path": self.ca,
            "connect_timeout": min(self.timeout_s, 5.0),
            "request_timeout": self.timeout_s,
            "allow_delayed_open": True,  # a small file is one request
            "background_writes": False,  # of a large one no more than a part is in memory
        }
        return fs.S3FileSystem(**options)


def _wrong(what: str, remedy: str) -> MissingSetting:
    return MissingSetting(f"THEMISTO_OFFLINE_STORE {what}.", remedy)


def _endpoint(said: Mapping[str, str]) -> str | None:
    given = [said.get("endpoint"), os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL")]
    url = next(filter(None, given), None)
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc or parts.path.strip("/"):
        raise _wrong("has an endpoint that is no address", "Write endpoint=https://host:port.")
    return url


def _positive(said: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(said.get(name, default))
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise _wrong(f"has a {name} that is no number above 0", f"The default is {default:g}.")
    return value
