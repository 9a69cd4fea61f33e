"""A real Cassandra for the tests: one node, its jars by Maven, 512 MB of heap, gone with the test run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

__all__ = ["CassandraNode"]

HERE = Path(__file__).parent
_EXPORTS = [
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
]
_OPENS = [
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "jdk.compiler/com.sun.tools.javac",
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.nio",
]


class CassandraNode:
    """`with CassandraNode(folder) as url:` — a keyspace of its own on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._native, self._storage, self._jmx = _free(), _free(), _free()

    def __enter__(self) -> str:
        lib = self._folder / "lib"
        subprocess.run(
            ["mvn", "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={lib}"],
            check=True,
            timeout=300,
        )
        self._write_config()
        self._process = subprocess.Popen(
            self._command(lib),
            stdout=(self._folder / "out.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait()
        self._make_keyspace()
        return f"cassandra://127.0.0.1:{self._native}/themisto?dc=datacenter1&consistency=LOCAL_QUORUM"

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write_config(self) -> None:
        (self._folder / "tmp").mkdir(parents=True)
        text = (HERE / "cassandra.yaml").read_text()
        for word, value in {"NATIVE": self._native, "STORAGE": self._storage, "DATA": self._folder}.items():
            text = text.replace(f"@{word}@", str(value))
        (self._folder / "cassandra.yaml").write_text(text)

    def _command(self, lib: Path) -> list[str]:
        # As root Cassandra locks its whole heap in memory: the capability is taken away.
        unlocked = ["setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"] if os.geteuid() == 0 else []
        settings = {
            "cassandra.config": f"file://{self._folder}/cassandra.yaml",
            "cassandra.storagedir": self._folder,
            "cassandra.logdir": self._folder,
            "logback.configurationFile": HERE / "logback.xml",
            "cassandra-foreground": "yes",
            "cassandra.libjemalloc": "-",
            "cassandra.jmx.local.port": self._jmx,
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.ring_delay_ms": 1000,
            "cassandra.superuser_setup_delay_ms": 0,
            "java.io.tmpdir": self._folder / "tmp",
            "jna.tmpdir": self._folder / "tmp",
            "java.net.preferIPv4Stack": "true",
            "jdk.attach.allowAttachSelf": "true",
            "io.netty.tryReflectionSetAccessible": "true",
        }
        return [
            *unlocked,
            "java",
            "-Xms512M",
            "-Xmx512M",
            "-Xss256k",
            "-XX:+UseG1GC",
            "-XX:+PerfDisableSharedMem",
            "-XX:MaxDirectMemorySize=512M",
            *(word for e in _EXPORTS for word in ("--add-exports", f"{e}=ALL-UNNAMED")),
            *(word for o in _OPENS for word in ("--add-opens", f"{o}=ALL-UNNAMED")),
            f"-javaagent:{next(lib.glob('jamm-*.jar'))}",
            *(f"-D{name}={value}" for name, value in settings.items()),
            "-cp",
            f"{lib}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def _wait(self, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "out.log").read_text()[-2000:])
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._native)) == 0:
                    return
            time.sleep(0.2)
        raise TimeoutError(f"Cassandra did not answer within {seconds} s")

    def _make_keyspace(self) -> None:
        from cassandra.cluster import Cluster

        with Cluster(["127.0.0.1"], port=self._native, protocol_version=5) as cluster, cluster.connect() as session:
            replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
            session.execute(f"CREATE KEYSPACE themisto WITH replication = {replication}")


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
