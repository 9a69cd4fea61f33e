"""Load: as much as a few connections can ask, from h2load (a client in C costs little); or a steady rate."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_GRPC = {"content-type": "application/grpc", "te": "trailers"}


@dataclass(frozen=True)
class Load:
    """What one round of requests took. Milliseconds, sorted; `per_s` requests were answered a second."""

    taken_ms: list[float]
    per_s: float
    failed: int

    def quantile(self, q: float) -> float:
        return self.taken_ms[min(len(self.taken_ms) - 1, int(q * len(self.taken_ms)))]


def load(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    clients: int,
    calls: int,
    grpc: bool = False,
) -> Load:
    """POST `body` `calls` times from `clients` kept connections, each as soon as it is answered.

    The first tenth is not counted. grpc: one unary call over HTTP/2 each; its own status is in a trailer
    that h2load does not read.
    """
    tool = shutil.which("h2load")
    if tool is None:
        raise SystemExit("the gateway's benchmark needs h2load: apt-get install nghttp2-client")
    with TemporaryDirectory() as name:
        data, log = Path(name) / "body", Path(name) / "log"
        data.write_bytes(len(body).to_bytes(5, "big") + body if grpc else body)
        command = [tool, "-t", "1", "-c", str(clients), "-n", str(calls), "-d", str(data), f"--log-file={log}"]
        command += [] if grpc else ["--h1"]
        given = headers | (_GRPC if grpc else {"content-type": "application/json"})
        command += [word for name, value in given.items() for word in ("-H", f"{name}: {value}")]
        done = subprocess.run([*command, url], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout)
        lines = sorted(tuple(map(int, line.split("\t")[:3])) for line in log.read_text().splitlines())
    lines = lines[len(lines) // 10 :]
    good = [taken for _, status, taken in lines if status == 200]
    seconds = (lines[-1][0] + lines[-1][2] - lines[0][0]) / 1e6
    return Load(sorted(t / 1000 for t in good), len(good) / seconds, len(lines) - len(good))


def steady(
    url: str,
    bodies: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    per_s: int,
    seconds: int,
    clients: int = 16,
    answered_by: str = "",
) -> Load:
    """POST `bodies` in turn at a fixed rate over HTTP/1.1, answered or not; waiting for a free connection counts.

    answered_by: only what this release answered is timed.
    """
    host, _, rest = url.removeprefix("http://").partition("/")
    lines = [f"POST /{rest} HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    head = "\r\n".join(lines + [f"{name}: {value}" for name, value in headers.items()])
    requests = [f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    wanted = f"\r\nx-release: {answered_by}\r\n".encode() if answered_by else b""
    return asyncio.run(_steady(host, requests, per_s, seconds, clients, wanted))


async def _steady(host: str, requests: Sequence[bytes], per_s: int, seconds: int, clients: int, wanted: bytes) -> Load:
    name, _, port = host.rpartition(":")
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    taken: list[float] = []
    failed = 0

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(name, int(port))
        while (one := await due.get()) is not None:
            at, request = one
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            if wanted in head:
                taken.append(1000 * (time.perf_counter() - at))
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    began = time.perf_counter()
    for n in range(per_s * seconds):
        at = began + n / per_s
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        due.put_nowait((at, requests[n % len(requests)]))
    for _ in tasks:
        due.put_nowait(None)
    await asyncio.gather(*tasks)
    return Load(sorted(taken), per_s, failed)
