"""Prove: a clean process that repeats a release's golden requests from the stored artifact alone.

    python -I -m themisto.serving.prove FOLDER

FOLDER holds `release.json` and `model.onnx` (or `model.python`). Prints one JSON document; exits 0 when
every golden answer is repeated, 1 when one is not, 2 when it could not be tried.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from themisto.errors import Invalid, ParityError, ThemistoError

__all__ = ["main", "prove"]


def prove(folder: Path) -> dict[str, Any]:
    """`{"agrees": true, "rows": …, "largest_difference": …, "detail": "…"}`.

    Raises ParityError when an answer differs or the artifact is not the release's, Invalid when there
    is no artifact or release to try.
    """
    from themisto.serving.exporter import Export
    from themisto.serving.frame import from_json, to_frame
    from themisto.serving.models import Release
    from themisto.serving.parity import Tolerance, compare
    from themisto.serving.runner import run

    try:
        release = Release.model_validate_json((folder / "release.json").read_text())
        data = (folder / f"model.{release.artifact.kind}").read_bytes()
    except (OSError, ValueError) as error:
        raise Invalid(f"There is nothing to prove in the folder: {error}") from None
    if hashlib.sha256(data).hexdigest() != release.artifact.sha256:
        raise ParityError("The stored artifact is not the one that the release names.")
    golden, signature = release.golden, release.signature
    inputs = from_json(golden.inputs, signature.inputs)
    expected = from_json(golden.outputs, signature.outputs)
    got = run(Export(kind=release.artifact.kind, data=data, signature=signature), inputs)
    found = compare(expected, got, to_frame(inputs), Tolerance(rtol=golden.rtol, atol=golden.atol, scale=False))
    return {
        "agrees": True,
        "rows": found.rows,
        "largest_difference": found.worst,
        "detail": f"A clean process repeated {found.rows} golden answers from the stored artifact.",
    }


def main(folder: Path) -> int:
    """Print the verdict; its exit code."""
    try:
        answer, code = prove(folder), 0
    except ParityError as error:
        answer, code = {"agrees": False, "detail": error.detail}, 1
    except ThemistoError as error:
        answer, code = {"agrees": None, "detail": str(error)}, 2
    sys.stdout.write(json.dumps(answer) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
