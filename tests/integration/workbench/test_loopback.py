"""What a kernel reaches on loopback without asking the gateway: not the model servers, nor what opens them."""

import os
import subprocess

import pytest

TRY = """
import httpx
from tritonclient import grpc as wire
body = {{"inputs": [{{"name": n, "shape": [1, 1], "datatype": "FP64", "data": [0.5]}} for n in ("a", "b")]}}
for port in ({dev}, {prod}):
    url = f"http://127.0.0.1:{{port}}/v2"
    print(httpx.get(f"{{url}}/health/ready", trust_env=False).status_code, end=" ")
    print(httpx.post(f"{{url}}/models/probe--1/infer", json=body, trust_env=False).status_code, end=" ")
    print(httpx.get(f"{{url}}/models/stats", trust_env=False).status_code, end=" ")
tensors = [wire.InferInput(n, [1, 1], "FP64") for n in ("a", "b")]
for tensor in tensors:
    tensor.set_data_from_numpy(X[["a"]].head(1).to_numpy())
try:
    wire.InferenceServerClient("127.0.0.1:{grpc}").infer("probe--1", tensors)
except Exception as error:
    print("restricted" in str(error))
"""
LOOK = """
import os, pathlib
seen = []
for look in (os.listdir, lambda folder: open(f"{{folder}}/cds.json")):
    try:
        look("{xds}")
        seen.append("open")
    except OSError:
        seen.append("closed")
commands = [p.read_bytes() for p in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
print(*seen, any(b"tritonserver" in c for c in commands))
"""


def test_kernel_cannot_ask_a_model_server_past_the_gateway(kernel, probe, house):
    assert probe() == 200
    (dev, grpc, _), (prod, _, _) = (house.settings.ports.triton[tier] for tier in ("dev", "prod"))
    text, error = kernel(TRY.format(dev=dev, prod=prod, grpc=grpc))
    assert (text.split(), error) == (["200", "403", "403"] * 2 + ["True"], None)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="walls need root")
def test_kernel_sees_nowhere_what_opens_the_model_servers(kernel, probe, house):
    assert probe() == 200
    text, error = kernel(LOOK.format(xds=house.settings.xds))
    assert (text.split(), error) == (["closed", "closed", "False"], None)
    stranger = ["setpriv", "--reuid", "655555", "--regid", "655555", "--clear-groups", "--", "ls"]
    done = subprocess.run([*stranger, house.settings.xds], capture_output=True, text=True, check=False, timeout=10)
    assert "Permission denied" in done.stderr
    assert house.settings.xds.stat().st_mode & 0o7777 == 0o2750
    assert {p.stat().st_mode & 0o777 for p in house.settings.xds.iterdir()} == {0o640}
    assert len({p.stat().st_gid for p in house.settings.xds.iterdir()} | {house.settings.xds.stat().st_gid}) == 1
