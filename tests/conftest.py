"""Fixtures that any test may ask for."""

import fcntl
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended stops the services it started


def pytest_make_parametrize_id(val):
    """Bytes may hold the time (gzip, ZIP), and a test has one name in all processes."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several processes (`pytest -n`), what shares servers runs in one of them, one after the other."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServers(LoadScopeScheduling):
        def add_node_collection(self, node, collection):
            assert len(set(collection)) == len(collection), "of tests with one name a single one would run"
            super().add_node_collection(node, collection)

        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            kind, folder, *rest = file.removeprefix("tests/").split("/")
            if kind == "browser" and not rest:
                return "integration/workbench"  # its house is the workbench's
            return file if kind == "unit" else f"{kind}/{folder}" if rest else kind

    return ByServers(config, log)


@pytest.fixture(scope="session")
def free_base():
    """The first of twenty free ports in a row, other ones each call; below those that the kernel gives to clients.

    They are this run's: another one on this machine, which looks at the same moment, leaves them out.
    """
    given, mine = itertools.cycle(range(12000, 18000, 20)), {}

    def find() -> int:
        for base in itertools.islice(given, 300):
            if base not in mine:
                try:
                    file = (Path(tempfile.gettempdir()) / f"themisto-test-ports-{base}").open("w")
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                mine[base] = file
            if all(_free(port) for port in range(base, base + 20)):
                return base
        raise RuntimeError("no free ports")

    yield find
    for file in mine.values():
        file.close()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@pytest.fixture(scope="session")
def postgresql_server():
    """A real PostgreSQL (Debian's), started for this session; or the one named by THEMISTO_TEST_POSTGRESQL."""
    given = os.environ.get("THEMISTO_TEST_POSTGRESQL")
    if given:
        yield given
        return
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    bin_dir = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="themisto-postgresql-"))
    folder.chmod(0o755)
    as_user = (
        ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"] if os.geteuid() == 0 else []
    )
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    subprocess.run(
        [*as_user, bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "themisto"], check=True, capture_output=True
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    subprocess.run(
        [*as_user, bin_dir / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"],
        check=True,
        timeout=60,
    )
    yield f"postgresql://themisto@127.0.0.1:{port}"
    subprocess.run([*as_user, bin_dir / "pg_ctl", "-D", data, "-m", "immediate", "stop"], check=True, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgresql_url(postgresql_server):
    """A fresh database on it."""
    import psycopg

    name = f"t{time.time_ns()}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield f"{postgresql_server}/{name}"
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def house():
    """A whole workbench, as `make up` starts it; torn down with nothing left running."""
    from themisto_hub.tour.house import House

    folder = Path(tempfile.mkdtemp(prefix="themisto-house-"))
    folder.chmod(0o755)
    house = House(folder / "state")
    try:
        house.start()
        yield house
    finally:
        house.stop()
    assert house.left_running() == []
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def people(house):
    """Everybody who may log in there, by name."""
    from themisto_hub.tour.people import People

    return People(house)


class Kernel:
    """The scientist's kernel in her server: `kernel("code")` gives `(printed text, error or None)`."""

    notebook = "tests/scratch.ipynb"

    def __init__(self, person):
        import nbformat

        self.person = person
        person.ensure_server(None)
        person.upload(self.notebook, nbformat.v4.new_notebook())

    def __call__(self, source: str) -> tuple[str, str | None]:
        outputs, _, failed = self.person.kernel(self.notebook).run(source, "scratch")
        text = "".join(o.get("text", "") for o in outputs if o.output_type == "stream")
        shown = "".join(str(o.data.get("text/plain", "")) for o in outputs if "data" in o)
        errors = [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]
        return text + shown, (errors or [text])[0] if failed else None

    def interrupt(self) -> None:
        """What Lab's stop button and Ctrl-C do."""
        self.person._api("POST", f"kernels/{self.person._kernels[self.notebook][0]}/interrupt")

    def reconnect(self) -> None:
        """A new channel to the same kernel, as Lab opens one when its own was cut."""
        self.person._kernels.pop(self.notebook)[1].close()


@pytest.fixture(scope="session")
def kernel(people):
    return Kernel(people["scientist"])
