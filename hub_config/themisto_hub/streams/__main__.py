"""`python -m themisto_hub.streams`: the inference consumers over Kafka, in the foreground."""

from __future__ import annotations

import sys

from themisto_hub.streams.run import run
from themisto_hub.streams.start import start

if __name__ == "__main__":
    sys.exit(start("streams", __doc__, run))
