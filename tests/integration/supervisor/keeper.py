"""`keeper.py STATE NAME...`: the product's supervisor and lock over small processes."""

import asyncio
import sys
from pathlib import Path

from themisto.errors import ThemistoError
from themisto_hub.supervisor.lock import Lock, Running
from themisto_hub.supervisor.processes import Process
from themisto_hub.supervisor.watch import Supervisor

_BEGIN = "import os, pathlib, signal, subprocess, sys, time; pathlib.Path('{name}.pid').write_text(str(os.getpid()));"
_BODIES = {
    # with a grandchild in a session of its own
    "web": (
        "import http.server; subprocess.Popen(['sleep', '600'], start_new_session=True);"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler);"
        "server.serve_forever()"
    ),
    "worker": "time.sleep(600)",
    "late": "time.sleep(600)",
    "broken": "sys.exit('the word that says why')",
    "deaf": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
}


def process(name):
    code = _BEGIN.format(name=name) + _BODIES[name]
    url = "http://127.0.0.1:9/" if name == "broken" else None
    after = ("web",) if name == "late" else ()
    return Process(
        name,
        [sys.executable, "-c", code],
        url,
        "work",
        environment={"PATH": "/usr/bin:/bin"},
        after=after,
        ready_timeout_s=4,
    )


def main(state, names):
    def tell(line):
        print(line, flush=True)

    try:
        with Lock(state, Running(port=8000, public_url=None, no_isolation="a test")):
            supervisor = Supervisor(state, [process(name) for name in names], tell)
            asyncio.run(supervisor.run(lambda: tell("up")))
    except ThemistoError as error:
        tell(f"refused: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
