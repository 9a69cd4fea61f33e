"""`python -m themisto_hub.feature_streams`: the consumer that reads topics into feature views, in the foreground."""

from __future__ import annotations

import sys

from themisto_hub.feature_streams.run import run
from themisto_hub.streams.start import start

if __name__ == "__main__":
    sys.exit(start("feature_streams", __doc__, run))
