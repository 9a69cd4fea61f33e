"""Store: a bucket of models for the cluster: artifacts by their digest, repositories by their release's hash."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from themisto.errors import Invalid, NotFound, Unavailable

__all__ = ["Bucket", "artifact_path", "repository_path"]

_PIECE = 1 << 20


def artifact_path(sha256: str) -> str:
    """Below the bucket's address: one file, named by its digest."""
    return f"artifacts/{sha256}"


def repository_path(release_hash: str) -> str:
    """Below the bucket's address: the folder that a Triton of one release serves."""
    return f"releases/{release_hash}"


class Bucket:
    """Files below a URL, `s3://bucket/prefix` or `file:///folder`, as Arrow opens it (credentials: the environment's).

    Raises Invalid for a URL of another kind, NotFound, and Unavailable for a bucket that does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            from pyarrow import fs

            self._fs, self._root = fs.FileSystem.from_uri(self.url)
        except (ValueError, TypeError, OSError) as error:
            raise Invalid(f"{url} is no place for models: {error}.", "Write s3://bucket/prefix.") from None

    def pieces(self, sha256: str) -> Iterator[bytes]:
        """Of an artifact, not verified."""
        with _ours(self.url), self._fs.open_input_stream(self._path(artifact_path(sha256))) as source:
            while piece := source.read(_PIECE):
                yield piece

    def put(self, files: Mapping[str, bytes]) -> int:
        """Write those that are not there with their size already; how many were written. Paths are below the URL."""
        with _ours(self.url):
            return sum(self._put(self._path(path), data) for path, data in files.items())

    def _put(self, path: str, data: bytes) -> bool:
        info = self._fs.get_file_info(path)
        if info.is_file and info.size == len(data):
            return False
        self._fs.create_dir(posixpath.dirname(path), recursive=True)
        with self._fs.open_output_stream(path) as out:
            out.write(data)
        return True

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path)


@contextmanager
def _ours(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{url} does not hold the model.", "Put it there: themisto render … --publish.") from None
    except OSError as error:
        raise Unavailable(f"{url} does not answer: {str(error)[:300]}", "Try again in a moment.") from None
