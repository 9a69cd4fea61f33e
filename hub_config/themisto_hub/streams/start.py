"""How a consumer of Kafka starts in the foreground, as the supervisor runs it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from themisto.errors import ThemistoError

__all__ = ["start"]


def start(package: str, does: str | None, run: Callable[[int | None], int], argv: Sequence[str] | None = None) -> int:
    """`python -m themisto_hub.PACKAGE`: run until SIGTERM; 1 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog=f"python -m themisto_hub.{package}", description=does)
    parser.add_argument("--port", type=int, help="of health and metrics; default: the workbench's own for it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return run(parser.parse_args(argv).port)
    except ThemistoError as error:
        sys.stderr.write(f"{package.replace('_', '-')}: {error}\n")
        return 1
