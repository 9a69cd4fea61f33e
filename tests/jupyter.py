"""A real Jupyter server in a process of its own, for tests of what runs inside one."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx

__all__ = ["LOGIN", "JupyterServer"]

LOGIN = "login-of-this-jupyter-server"


class JupyterServer:
    """`python -m jupyter_server` (or `jupyterlab`) in a folder of its own; stopped with all its children.

    home: what the person sees as her files.
    """

    def __init__(self, folder, port, environment, app="jupyter_server", options=()):
        self.url = f"http://127.0.0.1:{port}"
        self.home = home = folder / "home"
        home.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "THEMISTO"))}
        own = {"HOME": str(home), "JUPYTER_CONFIG_DIR": str(home / ".jupyter"), "JUPYTER_DATA_DIR": str(home / ".data")}
        command = [sys.executable, "-m", app, "--no-browser", "--allow-root", f"--port={port}"]
        command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={LOGIN}", f"--ServerApp.root_dir={home}"]
        command += ["--ServerApp.jpserver_extensions=themisto_lab=True", *options]
        self._log = (folder / "jupyter.log").open("w")
        self._process = subprocess.Popen(
            command,
            env=kept | own | environment,
            cwd=home,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()

    def _wait(self):
        end = time.monotonic() + 40
        while time.monotonic() < end:
            assert self._process.poll() is None, "the Jupyter server ended; see jupyter.log"
            try:
                if httpx.get(f"{self.url}/api", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise TimeoutError("the Jupyter server did not start")

    def client(self, **headers):
        """A caller with the server's token, as a script would be."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"token {LOGIN}"} | headers, timeout=10)

    @contextmanager
    def browser(self):
        """A caller with the cookies of a login, as a browser is; and its XSRF token."""
        with httpx.Client(base_url=self.url, timeout=10, headers={"Referer": f"{self.url}/lab"}) as http:
            http.get(f"/tree?token={LOGIN}", follow_redirects=True)
            yield http, http.cookies["_xsrf"]

    def stop(self):
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._log.close()
