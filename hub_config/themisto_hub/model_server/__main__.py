"""`python -m themisto_hub.model_server dev|prod|pool`: become a tier's Triton, or keep the groups' Tritons."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Literal

from themisto.errors import Failed, ThemistoError
from themisto_hub.model_server import pool
from themisto_hub.model_server.infer_key import tier_key
from themisto_hub.model_server.server import Server, environment_folder
from themisto_hub.settings import Deployment, Keys


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m themisto_hub.model_server", description=__doc__)
    parser.add_argument("what", choices=["dev", "prod", "pool"])
    what = parser.parse_args(argv).what
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        if what == "pool":
            pool.run(Deployment(), Keys())
        else:
            tier_server(what, Deployment(), Keys()).execute()
    except ThemistoError as error:
        print(f"model server: {error}", file=sys.stderr)
        return 1
    return 0


def tier_server(tier: Literal["dev", "prod"], settings: Deployment, keys: Keys) -> Server:
    """The tier's Triton, its folder prepared. Raises NotFound or Failed when something is not there."""
    infer_key = tier_key(keys, tier)
    if infer_key is None or not infer_key.get_secret_value():
        raise Failed(
            f"The inference API of {tier}'s Triton would be open to everybody.",
            f"Give it a key: THEMISTO_KEY_TRITON_INFER_{tier.upper()}.",
        )
    http, grpc, metrics = settings.ports.triton[tier]
    key = keys.triton_dev if tier == "dev" else keys.triton_prod
    folder = settings.folder(f"triton-{tier}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = Server(
        name=f"{tier}{http}",
        folder=folder,
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        key=key.get_secret_value() if key else "",
        python=environment_folder(),
        infer_key=infer_key.get_secret_value(),
        traces_url=settings.traces_url,
    )
    server.prepare()
    return server


if __name__ == "__main__":
    sys.exit(main())
