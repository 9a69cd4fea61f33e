"""What a pod fetches is whole and right, or its Triton does not start; each mistake is one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from tests.unit.cluster.plans import PROFILES, release

from themisto.errors import Failed, Invalid, NotFound, Refused, Unavailable
from themisto.serving.models import Artifact
from themisto_hub.cluster.pull import ARTIFACT_KEY, lay_out, main
from themisto_hub.cluster.servers import Fetches, fetch_for
from themisto_hub.cluster.store import Bucket, artifact_path

MODEL = b"bytes of a model" * 1000
SHA = hashlib.sha256(MODEL).hexdigest()


def fetches(data: bytes = MODEL, kind: str = "onnx", *, own: bool = True) -> Fetches:
    artifact = Artifact(kind=kind, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    return Fetches(models=(fetch_for(release(7, artifact=artifact), PROFILES["cpu-small"], own=own),))


def function(**files: str) -> bytes:
    signature = release().signature.model_dump_json()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in ({"function.py": "def predict(f): ...", "signature.json": signature} | files).items():
            archive.writestr(name, text)
    return out.getvalue()


@pytest.fixture
def bucket(tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    Bucket(folder.as_uri()).put({artifact_path(SHA): MODEL})
    return folder


@pytest.fixture
def control_plane():
    """Answers what it is told to, one after the other, and the last one for ever."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        answers: ClassVar = [(200, MODEL)]

        def do_GET(self):
            asked.append((self.path, self.headers.get(ARTIFACT_KEY)))
            status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/themisto", Handler, asked
    server.shutdown()
    server.server_close()


def test_onnx_from_the_control_plane_lies_as_triton_reads_it(tmp_path, control_plane):
    url, _, asked = control_plane
    lay_out(fetches(), tmp_path / "models", url, "key")
    assert (tmp_path / "models" / "credit" / "7" / "model.onnx").read_bytes() == MODEL
    assert 'name: "credit"' in (tmp_path / "models" / "credit" / "config.pbtxt").read_text()
    assert asked == [(f"/services/themisto/api/v1/cluster/artifacts/{SHA}", "key")]
    assert not list((tmp_path / "models").rglob("*.part"))


def test_code_from_a_bucket_lies_as_triton_reads_it(tmp_path, bucket):
    data = function(**{"helpers/rates.txt": "0.1"})
    Bucket(bucket.as_uri()).put({artifact_path(hashlib.sha256(data).hexdigest()): data})
    lay_out(fetches(data, "python", own=False), tmp_path / "models", bucket.as_uri(), "")
    found = {str(f.relative_to(tmp_path / "models" / "credit--7")) for f in (tmp_path / "models").rglob("*.*")}
    assert {"config.pbtxt", "1/model.py", "1/function.py", "1/signature.json", "1/helpers/rates.txt"} <= found


def test_a_second_run_after_a_kill_goes_through(tmp_path, bucket):
    models = tmp_path / "models"
    models.mkdir()
    (models / f"{SHA}.part").write_bytes(b"half")
    for _ in range(2):
        lay_out(fetches(), models, bucket.as_uri(), "")
    assert (models / "credit" / "7" / "model.onnx").read_bytes() == MODEL


def test_control_plane_that_comes_back_is_asked_again(tmp_path, control_plane):
    url, handler, asked = control_plane
    handler.answers = [(503, b""), (502, b""), (200, MODEL)]
    lay_out(fetches(), tmp_path / "models", url, "key")
    assert len(asked) == 3


def test_control_plane_that_stays_away_is_given_up(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        lay_out(fetches(), tmp_path / "models", "http://127.0.0.1:9", "key", give_up_s=0.3)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, MODEL[:-1], Failed),
        (200, MODEL + b"more", Failed),
        (200, bytes(len(MODEL)), Failed),
        (403, b"", Refused),
        (401, b"", Refused),
        (404, b"", NotFound),
    ],
)
def test_what_is_not_the_artifact_is_not_kept(tmp_path, control_plane, status, body, error):
    url, handler, _ = control_plane
    handler.answers = [(status, body)]
    with pytest.raises(error):
        lay_out(fetches(), tmp_path / "models", url, "key")
    assert not list((tmp_path / "models").rglob("model.onnx"))


def test_zip_that_leaves_its_folder_is_refused(tmp_path, bucket):
    data = function(**{"../../../escape.py": "x"})
    Bucket(bucket.as_uri()).put({artifact_path(hashlib.sha256(data).hexdigest()): data})
    with pytest.raises(Invalid):
        lay_out(fetches(data, "python"), tmp_path / "models", bucket.as_uri(), "")
    assert not list(tmp_path.rglob("escape.py"))


def test_bucket_writes_what_is_not_there_and_no_more(bucket):
    store = Bucket(bucket.as_uri())
    assert store.put({artifact_path(SHA): MODEL, "releases/x/credit/config.pbtxt": b"name"}) == 1
    assert (bucket / "releases/x/credit/config.pbtxt").read_bytes() == b"name"
    with pytest.raises(NotFound, match="--publish"):
        list(store.pieces("0" * 64))
    with pytest.raises(Invalid, match="no place for models"):
        Bucket("nothing://x")


def said(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in str(lines)
    return lines[0]


def test_command_says_what_is_wrong_in_a_sentence(tmp_path, bucket, capsys, monkeypatch):
    listed = tmp_path / "models.json"
    listed.write_text(fetches().text)
    assert "THEMISTO_PULL_STORE is not set" in said(capsys, str(listed), str(tmp_path / "models"))
    monkeypatch.setenv("THEMISTO_PULL_STORE", bucket.as_uri())
    assert main([str(listed), str(tmp_path / "models")]) == 0
    assert "No such file" in said(capsys, str(tmp_path / "none.json"), str(tmp_path / "models"))
    listed.write_text(json.dumps({"models": []}))
    assert "1 mistakes in the list" in said(capsys, str(listed), str(tmp_path / "models"))
    assert "MODELS.JSON FOLDER" in said(capsys, str(listed))
