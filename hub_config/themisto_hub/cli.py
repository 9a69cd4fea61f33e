"""The command `themisto`: up, down, tour, doctor, rollback, render."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError
from pydantic_settings import SettingsError

from themisto.errors import Refused, ThemistoError, Unavailable, error_for
from themisto_hub.cluster.capabilities import TARGETS, WAIVABLE
from themisto_hub.gateway.put import put
from themisto_hub.settings import Deployment
from themisto_hub.supervisor import namespace
from themisto_hub.supervisor.lock import as_running, holder

__all__ = ["main"]

_DOWN_WITHIN_S = 90.0


def main(argv: list[str] | None = None) -> int:
    """Run a command; an error of ours, of a setting or of the machine is a sentence or two and exit code 1."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.handler(args)
    except ThemistoError as error:
        print(f"themisto: {error}", file=sys.stderr)
        return 1
    except (ValidationError, SettingsError, TOMLDecodeError) as error:
        print(f"themisto: {_setting(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"themisto: {_machine(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _setting(error: ValidationError | SettingsError | TOMLDecodeError) -> str:
    if isinstance(error, TOMLDecodeError):
        return f"The settings file cannot be read: {error}. Correct it."
    if isinstance(error, SettingsError):
        return f"A setting is no JSON: {error}. Correct it."
    if error.title != Deployment.__name__:
        raise error
    first = error.errors()[0]
    if not first["loc"]:
        return f"The settings do not go together: {first['msg']}. Correct them."
    name = "_".join(str(part) for part in first["loc"]).removeprefix("themisto_")
    return f"The setting THEMISTO_{name.upper()} cannot be {first['input']!r}: {first['msg']}. Correct it."


def _machine(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The disk is full{where}. Free some space; nothing that was there is lost."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{where}. Start as the user it belongs to, or choose another folder: THEMISTO_STATE."
    return f"{error.strerror or error}{where}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("themisto", description="A self-service ML workbench that lives in Jupyter.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="run a whole workbench on this machine, in the foreground")
    up.set_defaults(handler=_up)
    down = commands.add_parser("down", help="stop the workbench that runs on this state")
    down.set_defaults(handler=_down)
    tour = commands.add_parser("tour", help="run notebooks through the front door of a fresh workbench")
    tour.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/, in order")
    tour.add_argument("--report", type=Path, default=Path("build/tour.json"))
    tour.set_defaults(handler=_tour)
    doctor = commands.add_parser("doctor", help="say what is well and what is not")
    doctor.add_argument("--audit", action="store_true", help="verify the audit chain")
    doctor.add_argument("--database", help="verify a copy instead, e.g. sqlite:////backups/control.db")
    doctor.set_defaults(handler=_doctor)
    rollback = commands.add_parser("rollback", help="back to the earlier release, also while the hub is down")
    rollback.add_argument("endpoint")
    rollback.set_defaults(handler=_rollback)
    render = commands.add_parser("render", help="an endpoint as objects of a cluster, YAML on the standard output")
    render.add_argument("endpoint")
    render.add_argument("--target", choices=TARGETS, help="default: THEMISTO_SERVING_TARGET")
    render.add_argument("--out", type=Path, metavar="DIR", help="write two files instead: servers, then traffic")
    render.add_argument("--without", nargs="+", choices=sorted(WAIVABLE), default=[], help="what the cluster has not")
    render.add_argument("--publish", action="store_true", help="put the models into the bucket of the cluster too")
    render.set_defaults(handler=_render)
    return parser


def _up(_: argparse.Namespace) -> int:
    settings = Deployment()
    no_isolation = namespace.can_isolate()
    if not no_isolation and not namespace.inside():
        namespace.enter([sys.executable, "-m", "themisto_hub.cli", "up"])
    from themisto_hub.supervisor.up import up

    up(settings, no_isolation, lambda line: print(line, flush=True), _welcome)
    return 0


def _welcome(settings: Deployment) -> None:
    from themisto_hub.supervisor.up import users_file

    print(f"\nthemisto is up: {settings.public}\n")
    file = users_file(settings.state)
    passwords: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    for name, password in passwords.items():
        print(f"  {name:<10} {password}")
    first = next(iter(passwords), "one of the people you named")
    print(f"\nTry first: log in as {first}, start a server, open notebooks/00-twenty-lines.ipynb.")
    print(f"The review page for prod releases: {settings.review_url}")
    print("Ctrl-C stops everything; the next `make up` finds all that was there.", flush=True)


def _down(_: argparse.Namespace) -> int:
    from themisto_hub.supervisor.watch import sweep

    state = Deployment().state.absolute()
    pid = holder(state)
    if pid is None:
        left = sweep(state)
        print(f"nothing was up here; ended {left} processes that an earlier run left" if left else "nothing is up here")
        return 0
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise Refused(f"Process {pid} belongs to another user.", "Stop it as that user: sudo make down.") from None
    except ProcessLookupError:
        pass
    until = time.monotonic() + _DOWN_WITHIN_S
    while holder(state) is not None:
        if time.monotonic() > until:
            raise Unavailable(f"Process {pid} does not stop.", f"End it by hand: kill -9 {pid}; then make down again.")
        time.sleep(0.2)
    print("stopped")
    return 0


def _tour(args: argparse.Namespace) -> int:
    from themisto_hub.tour.run import tour

    return tour(args.notebooks, args.report)


def _doctor(args: argparse.Namespace) -> int:
    from themisto_hub.doctor import doctor

    return doctor(as_running(Deployment()), audit=args.audit, database=args.database)


def _rollback(args: argparse.Namespace) -> int:
    answer = _as_operator(f"rollback/{args.endpoint}", None)
    print(f"{args.endpoint}: release {answer['stable']} answers now")
    return 0


def _render(args: argparse.Namespace) -> int:
    wish = {"target": args.target, "without": args.without, "publish": args.publish}
    answer = _as_operator(f"render/{args.endpoint}", wish)
    if args.out is None:
        print(answer["servers"] + answer["traffic"], end="")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(("servers", "traffic"), start=1):
        file = args.out / f"{answer['endpoint']}-{answer['target']}-{number}-{step}.yaml"
        put(file, answer[step])
        print(f"{file}: {', '.join(answer['releases'])}")
    return 0


def _as_operator(path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """Ask the control plane with the operator's key, also while the hub is down. Raises what it says."""
    from themisto_hub.supervisor.keyring import Keyring

    settings = as_running(Deployment())
    keys = Keyring(settings.state.absolute() / "keys" / "keys.json")
    url = f"http://127.0.0.1:{settings.ports.control}/services/themisto/api/v1/operator/{quote(path)}"
    try:
        response = httpx.post(url, headers={"X-Operator-Key": keys["operator"]}, json=body, timeout=120)
    except httpx.TransportError:
        raise Unavailable("The control plane does not answer.", "Start it: make up.") from None
    answer: dict[str, Any] = response.json()
    if response.status_code >= 400:
        raise error_for(response.status_code, answer)
    return answer


if __name__ == "__main__":
    sys.exit(main())
