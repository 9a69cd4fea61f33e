"""`python -m themisto_hub.feature_streams`: the consumer that reads topics into feature views, in the foreground."""

from __future__ import annotations

import argparse
import logging
import sys

from themisto.errors import ThemistoError
from themisto_hub.feature_streams.run import run


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM; 1 with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m themisto_hub.feature_streams", description=__doc__)
    parser.add_argument("--port", type=int, help="of health and metrics; default: the workbench's own for it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return run(parser.parse_args(argv).port)
    except ThemistoError as error:
        sys.stderr.write(f"feature-streams: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
