"""The server half of the Lab extension: one authenticated forwarding handler to the control plane.

No business logic lives here. The panel asks its own Jupyter server, which adds the server's hub
token; so the browser never holds that token, and never speaks to another origin.
"""

from __future__ import annotations

from typing import Any

__all__: list[str] = []


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "themisto-lab"}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "themisto_lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Called by Jupyter Server once, at start."""
    from themisto_lab.handler import handlers

    server.web_app.add_handlers(".*$", handlers(server.web_app.settings["base_url"]))
    server.log.info("themisto_lab: the panel reaches the control plane through this server")
