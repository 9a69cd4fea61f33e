"""`python -m themisto_hub.gateway envoy|transformer|log`: one of the gateway's three processes, in the foreground."""

from __future__ import annotations

import argparse
import importlib
import sys

from themisto.errors import ThemistoError

_MODULES = {"envoy": "envoy", "transformer": "transformer", "log": "log"}


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM; 1 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m themisto_hub.gateway", description=__doc__)
    parser.add_argument("what", choices=list(_MODULES))
    what = parser.parse_args(argv).what
    module = importlib.import_module(f"themisto_hub.gateway.{_MODULES[what]}")
    try:
        return int(module.main())
    except ThemistoError as error:
        print(f"gateway {what}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
