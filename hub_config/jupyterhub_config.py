"""JupyterHub's configuration of a whole workbench. Set what you want differently above `configure`: it stays."""

from themisto_hub.configure import configure

c = get_config()  # type: ignore[name-defined]  # JupyterHub puts it there

configure(c)
