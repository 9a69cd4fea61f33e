"""Pull: `python -m themisto_hub.cluster.pull MODELS.JSON FOLDER`, what a pod runs before its Triton starts.

Fetches each artifact by its SHA-256 from the control plane or a bucket (THEMISTO_PULL_STORE), verifies
it, and lays it out as Triton's repository. What does not verify never lies where Triton looks.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx
from pydantic import ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from themisto.errors import Failed, Invalid, MissingSetting, NotFound, Refused, ThemistoError, Unavailable
from themisto_hub.cluster.servers import Fetch, Fetches
from themisto_hub.cluster.store import Bucket

__all__ = ["ARTIFACT_KEY", "lay_out", "main"]

ARTIFACT_KEY = "x-artifact-key"
"""Header that carries the key which opens the control plane's artifacts."""

_TIMEOUT_S = 30.0
_GIVE_UP_S = 300.0
_PIECE = 1 << 20
_PARTIAL = ".part"


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 and a sentence for whatever is wrong; the pod's own restart tries again."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        file, folder = given if len(given) == 2 else _usage()
        fetches = Fetches.model_validate_json(Path(file).read_text())
        lay_out(fetches, Path(folder), _setting("THEMISTO_PULL_STORE"), os.environ.get("THEMISTO_KEY_ARTIFACTS", ""))
    except ThemistoError as error:
        print(f"pull: {error}", file=sys.stderr)
        return 1
    except ValidationError as error:
        print(f"pull: {error.error_count()} mistakes in the list of models: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"pull: {error.strerror} ({error.filename}).", file=sys.stderr)
        return 1
    return 0


def lay_out(fetches: Fetches, folder: Path, store: str, key: str, *, give_up_s: float = _GIVE_UP_S) -> None:
    """Fetch, verify and lay out every model; run again, it does what is missing.

    Raises NotFound, Refused, Failed for bytes that are not what they must be, Unavailable after
    `give_up_s` seconds of a store that does not answer.
    """
    for fetch in fetches.models:
        folder.mkdir(parents=True, exist_ok=True)
        fetched = folder / f"{fetch.artifact.sha256}{_PARTIAL}"
        again = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_delay(give_up_s),
            wait=wait_random_exponential(0.2, max=10),
            reraise=True,
        )
        again(_fetch, fetch, fetched, store, key)
        _place(fetch, fetched, folder)


def _fetch(fetch: Fetch, into: Path, store: str, key: str) -> None:
    digest, size, expected = hashlib.sha256(), 0, fetch.artifact
    source = _http(expected.sha256, store, key) if store.startswith("http") else Bucket(store).pieces(expected.sha256)
    with into.open("wb") as out:
        for piece in source:
            size += len(piece)
            if size > expected.size_bytes:
                break
            digest.update(piece)
            out.write(piece)
    if size != expected.size_bytes or digest.hexdigest() != expected.sha256:
        into.unlink()
        raise Failed(
            f"What {store} gave for {fetch.name} is not the artifact {expected.sha256[:12]}…",
            "It was changed or cut: restore it from the backup.",
        )


def _http(sha256: str, store: str, key: str) -> Iterator[bytes]:
    url = f"{store.rstrip('/')}/api/v1/cluster/artifacts/{sha256}"
    try:
        with httpx.stream("GET", url, headers={ARTIFACT_KEY: key}, timeout=_TIMEOUT_S) as response:
            _require_ok(response, sha256)
            yield from response.iter_bytes(_PIECE)
    except httpx.TransportError as error:
        raise Unavailable(f"The control plane does not answer: {error}.", "It is tried again.") from None


def _require_ok(response: httpx.Response, sha256: str) -> None:
    if response.status_code == 404:
        raise NotFound(f"The control plane has no artifact {sha256[:12]}…", "Restore it from the backup.")
    if response.status_code in (401, 403):
        raise Refused("The control plane does not take the key.", "Put it into the Secret: THEMISTO_KEY_ARTIFACTS.")
    if response.status_code != 200:
        raise Unavailable(f"The control plane answers {response.status_code}.", "It is tried again.")


def _place(fetch: Fetch, fetched: Path, folder: Path) -> None:
    """An ONNX model may be larger than memory: it is moved, not read."""
    large = fetch.artifact.kind == "onnx"
    for path, data in fetch.files(b"" if large else fetched.read_bytes()).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if large and file.name == "model.onnx":
            fetched.replace(file)
        else:
            file.write_bytes(data)
    fetched.unlink(missing_ok=True)


def _usage() -> NoReturn:
    raise Invalid("Two things are needed: MODELS.JSON FOLDER.", "See the Deployment's container fetch-models.")


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise MissingSetting(f"{name} is not set.", "The pod's container says where models are fetched from.")
    return value


if __name__ == "__main__":
    sys.exit(main())
