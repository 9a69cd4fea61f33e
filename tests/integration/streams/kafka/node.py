"""A real Kafka for the tests: one node, broker and controller, its jars by Maven, 256 MB of heap, gone with the run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["KafkaNode", "free"]

HERE = Path(__file__).parent
_CLUSTER = "dGhlbWlzdG8tc3RyZWFtcw"  # sixteen bytes, base64; a random one may begin with a dash, which is an option


class KafkaNode:
    """`with KafkaNode(folder) as servers:` — `127.0.0.1:<port>`, nothing in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._controller = free(), free()

    def __enter__(self) -> str:
        lib = self._folder / "lib"
        copied = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
        subprocess.run(["mvn", "-q", "-B", "-f", HERE / "pom.xml", *copied], check=True, timeout=300)
        config = self._config()
        subprocess.run(
            [*self._java(lib), "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", config, *self.format_options],
            check=True,
            timeout=60,
            capture_output=True,
        )
        with (self._folder / "out.log").open("wb") as out:
            self._process = subprocess.Popen(
                [*self._java(lib), "kafka.Kafka", config], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._wait()
        return f"127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def format_options(self) -> list[str]:
        """What its first start is told beside its settings."""
        return []

    def settings(self) -> dict[str, Any]:
        """Its server.properties."""
        broker, controller = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._controller}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self._folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
        }

    def _config(self) -> Path:
        file = self._folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in self.settings().items()))
        return file

    def _java(self, lib: Path) -> list[str]:
        return [
            "java",
            "-Xms64m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
            "-cp",
            f"{lib}/*",
        ]

    def _wait(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "out.log").read_text()[-2000:])
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError(f"Kafka did not answer within {seconds} s")


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
