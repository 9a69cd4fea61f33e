"""Trial: a clean process in which candidate and champion answer the hold-out, and the gates are decided.

    python -I -m themisto.serving.trial ask FOLDER ROLE    writes ROLE.requests.jsonl, a request a line
    python -I -m themisto.serving.trial judge FOLDER       prints the verdicts

FOLDER holds `quality.json`, `holdout.parquet`, and for each ROLE, `candidate` and `champion` (where there
is one), the release `ROLE.json` with either its `ROLE.onnx`, answered here, or `ROLE.answers.jsonl`: code
answers apart, in its group's model server. Exits 0 with `{"verdicts": …}`, 1 with what is wrong in words,
2 when it could not be tried. Rows never leave the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from themisto.errors import Invalid, ThemistoError

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors
    from themisto.serving.gates import Quality, Verdict
    from themisto.serving.models import Release

__all__ = ["Role", "ask", "judge", "main"]

Role = Literal["candidate", "champion"]
_MEMORY_BYTES = 16 * 2**30
"""Of address space: a file that unfolds to more ends this process, not the machine."""
_ROWS = 20_000


def judge(folder: Path) -> tuple[Verdict, ...]:
    """The verdict of each gate. Raises Invalid where candidate or hold-out do not fit, ParityError, Failed."""
    from themisto.serving import judging
    from themisto.serving.holdout import answered, frame_digests, require_fit, require_labels, require_unseen

    quality, frame = _quality(folder), _frame(folder)
    candidate, champion = _release(folder, "candidate"), _release(folder, "champion")
    assert candidate is not None
    if len(frame) != quality.rows:
        raise Invalid(f"The hold-out has {len(frame):,} rows, not {quality.rows:,}.", "Give it again with --holdout.")
    require_labels(frame, quality.label, quality.by, quality.gates)
    require_fit(frame, quality.label, quality.gates, candidate.signature)
    require_unseen(frame_digests(frame, quality.label), candidate.data_sha256)
    theirs = None
    if champion is not None and any("champion" in gate for gate in quality.gates):
        theirs = answered(frame, _answers(folder, "champion", champion, frame), quality.label, quality.by)
    ours = answered(frame, _answers(folder, "candidate", candidate, frame), quality.label, quality.by)
    return judging.judge(quality.gates, ours, theirs)


def ask(folder: Path, role: Role) -> int:
    """Write the hold-out as requests that the release takes, `max_batch` rows each; how many."""
    from themisto.serving.frame import to_json
    from themisto.serving.holdout import inputs_of

    release, frame = _release(folder, role), _frame(folder)
    assert release is not None
    inputs = inputs_of(frame, release.signature.inputs, whose=str(release))
    count = 0
    with (folder / f"{role}.requests.jsonl").open("w") as file:
        for start in range(0, len(frame), release.serving.max_batch):
            batch = {name: array[start : start + release.serving.max_batch] for name, array in inputs.items()}
            file.write(json.dumps(to_json(batch)) + "\n")
            count += 1
    return count


def _quality(folder: Path) -> Quality:
    from themisto.serving.gates import Quality

    return Quality.model_validate_json((folder / "quality.json").read_text())


def _release(folder: Path, role: Role) -> Release | None:
    from themisto.serving.models import Release

    file = folder / f"{role}.json"
    return Release.model_validate_json(file.read_text()) if file.exists() else None


def _frame(folder: Path) -> pd.DataFrame:
    """The rows, once the file says that there are few enough. Raises Invalid."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from themisto.serving.holdout import MAX_ROWS

    file = folder / "holdout.parquet"
    try:
        with pq.ParquetFile(file) as stored:
            rows = stored.metadata.num_rows
            if rows <= MAX_ROWS:
                frame: pd.DataFrame = stored.read().to_pandas()
                return frame
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise Invalid(f"The stored hold-out is no Parquet file: {cause}", "Give it again with --holdout.") from None
    raise Invalid(f"The hold-out has {rows:,} rows.", f"Give at most {MAX_ROWS:,}.")


def _answers(folder: Path, role: Role, release: Release, frame: pd.DataFrame) -> Tensors:
    import numpy as np

    from themisto.serving.frame import from_json
    from themisto.serving.holdout import inputs_of
    from themisto.serving.runner import run_onnx

    answers = folder / f"{role}.answers.jsonl"
    outputs = release.signature.outputs
    if answers.exists():
        parts: list[Tensors] = [from_json(one, outputs) for one in _lines(answers)]
    else:
        data = (folder / f"{role}.onnx").read_bytes()
        if hashlib.sha256(data).hexdigest() != release.artifact.sha256:
            raise Invalid(f"The stored artifact is not the one that {release} names.", "Deploy it again.")
        inputs = inputs_of(frame, release.signature.inputs, whose=str(release))
        parts = [
            run_onnx(data, release.signature, {name: array[at : at + _ROWS] for name, array in inputs.items()})
            for at in range(0, len(frame), _ROWS)
        ]
    whole = {c.name: np.concatenate([np.asarray(part[c.name]) for part in parts]) for c in outputs}
    if any(len(array) != len(frame) for array in whole.values()):
        raise Invalid(f"{release} did not answer every row of the hold-out.", "Mend the model: one answer a row.")
    return whole


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open() as lines:
        for line in lines:
            yield json.loads(line)


def main(words: list[str]) -> int:
    """Do what is asked; its exit code."""
    _limit_memory()
    try:
        if words[0] == "ask":
            answer: dict[str, Any] = {
                "requests": ask(Path(words[1]), "champion" if words[2] == "champion" else "candidate")
            }
        else:
            answer = {"verdicts": [v.model_dump(mode="json") for v in judge(Path(words[1]))]}
        code = 0
    except Invalid as error:
        answer, code = {"detail": error.detail, "remedy": error.remedy}, 1
    except ThemistoError as error:
        answer, code = {"detail": error.detail, "remedy": error.remedy}, 2
    except MemoryError:
        answer, code = {"detail": "The hold-out does not fit in memory.", "remedy": "Give fewer rows."}, 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return code


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
