"""A real Cassandra for the tests: one node or a ring, jars by Maven, 512 MB of heap each, gone with the test run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

__all__ = ["CassandraNode", "CassandraRing"]

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


class Process:
    """One node of a ring of `of`, on 127.0.0.`number`."""

    def __init__(
        self, folder: Path, lib: Path, *, number: int = 1, of: int = 1, ports: tuple[int, int], secured: bool = False
    ) -> None:
        self._folder, self._lib = folder, lib
        self.address = f"127.0.0.{number}"
        self._native, self._storage = ports
        self._jmx = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "tmp").mkdir(parents=True)
        words = {
            "NATIVE": self._native,
            "STORAGE": self._storage,
            "DATA": folder,
            "IP": self.address,
            "TOKEN": -(2**63) + 1 + (number - 1) * (2**64 // of),
            "TLS": str(secured).lower(),
            "AUTHENTICATOR": "PasswordAuthenticator" if secured else "AllowAllAuthenticator",
            "AUTHORIZER": "CassandraAuthorizer" if secured else "AllowAllAuthorizer",
        }
        text = (HERE / "cassandra.yaml").read_text()
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        (folder / "cassandra.yaml").write_text(text)

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command(self._lib),
            stdout=(self._folder / "out.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self) -> None:
        """kill -9; what it wrote stays."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(20)
            self._process = None

    def pause(self, *, stop: bool) -> None:
        """Let it answer nothing, its connections open; or go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP if stop else signal.SIGCONT)

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

    def wait(self, seconds: float = 120) -> None:
        """Until its CQL port answers."""
        assert self._process is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError((self._folder / "out.log").read_text()[-2000:])
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self._native)) == 0:
                    return
            time.sleep(0.2)
        raise TimeoutError(f"Cassandra did not answer within {seconds} s")


class CassandraRing:
    """`with CassandraRing(folder, nodes=3) as ring:` - nodes on 127.0.0.1 and on, and a keyspace on all of them.

    secured: TLS with a certificate of its own (`ca`), and a password for the superuser.
    """

    def __init__(self, folder: Path, nodes: int = 1, *, secured: bool = False) -> None:
        self._folder, self._secured = folder, secured
        self._lib = folder / "lib"
        self.port, storage = free_port(), free_port()
        self.nodes = [
            Process(folder / f"n{n}", self._lib, number=n, of=nodes, ports=(self.port, storage), secured=secured)
            for n in range(1, nodes + 1)
        ]
        self.ca = folder / "ca.pem"
        self.password_file = folder / "password"

    def url(self, keyspace: str = "themisto", **options: object) -> str:
        hosts = ",".join(node.address for node in self.nodes)
        told = {"dc": "datacenter1", **options}
        return f"cassandra://{hosts}:{self.port}/{keyspace}?{urlencode(told)}"

    def __enter__(self) -> CassandraRing:
        subprocess.run(
            [
                "mvn",
                "-q",
                "-B",
                "-f",
                HERE / "pom.xml",
                "dependency:copy-dependencies",
                f"-DoutputDirectory={self._lib}",
            ],
            check=True,
            timeout=300,
        )
        if self._secured:
            self._make_certificate()
            self.password_file.write_text("cassandra\n")
        try:
            seed, *others = self.nodes
            seed.start()
            seed.wait()  # one that finds no seed when it starts gives up
            for node in others:
                node.start()
            for node in others:
                node.wait()
            self._make_keyspace()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def cluster(self) -> Any:
        """A driver's cluster with the superuser's rights, to prepare and to look."""
        import ssl

        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import Cluster

        return Cluster(
            [node.address for node in self.nodes],
            port=self.port,
            protocol_version=5,
            connect_timeout=20,
            auth_provider=PlainTextAuthProvider("cassandra", "cassandra") if self._secured else None,
            ssl_context=ssl.create_default_context(cafile=self.ca) if self._secured else None,
        )

    def make_keyspace(self, name: str) -> None:
        with self.cluster() as cluster, cluster.connect() as session:
            replication = f"{{'class': 'NetworkTopologyStrategy', 'datacenter1': {min(3, len(self.nodes))}}}"
            session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}", timeout=60)

    def _make_keyspace(self) -> None:
        from cassandra.cluster import NoHostAvailable

        end = time.monotonic() + 60
        while True:  # a ring knows all its members a moment after their ports answer; so with the superuser
            try:
                with self.cluster() as cluster, cluster.connect():
                    if sum(h.is_up is True for h in cluster.metadata.all_hosts()) == len(self.nodes):
                        break
            except NoHostAvailable:
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise TimeoutError("The nodes did not find each other within 60 s")
            time.sleep(0.5)
        self.make_keyspace("themisto")

    def _make_certificate(self) -> None:
        store = self._folder / "n1" / "node.p12"
        common = ["-alias", "n", "-keystore", store, "-storepass", "cassandra"]
        name = ["-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-validity", "30"]
        kind = ["-keyalg", "EC", "-groupname", "secp256r1", "-storetype", "PKCS12"]
        subprocess.run(["keytool", "-genkeypair", *common, *name, *kind], check=True, capture_output=True)
        told = subprocess.run(["keytool", "-exportcert", "-rfc", *common], check=True, capture_output=True)
        self.ca.write_bytes(told.stdout)


class CassandraNode:
    """`with CassandraNode(folder) as url:` - one node and a keyspace of its own."""

    def __init__(self, folder: Path) -> None:
        self._ring = CassandraRing(folder)

    def __enter__(self) -> str:
        return self._ring.__enter__().url(consistency="LOCAL_QUORUM")

    def __exit__(self, *_: object) -> None:
        self._ring.__exit__()


def free_port() -> int:
    """Below the range that the kernel gives to outgoing connections, free on all three addresses."""
    for _ in range(200):
        port = random.randrange(10_000, 32_000)
        try:
            for n in (1, 2, 3):
                with socket.socket() as probe:
                    probe.bind((f"127.0.0.{n}", port))
        except OSError:
            continue
        return port
    raise RuntimeError("No free port was found")
