"""An answer of the hub that says in words why it is no; shown on its pages and in its API as it is."""

from __future__ import annotations

from tornado.web import HTTPError

__all__ = ["Refusal"]


class Refusal(HTTPError):
    """`status` 403: never; 400: not so; 429 and 503: try again later."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, "%s", words)
        self.jupyterhub_message = words
