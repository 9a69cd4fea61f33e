"""Spark as the engine of joins: one session a kernel, made when it is first needed, and quiet.

Spark's own lines go to a file, never to a cell. What it spills here goes to a folder like DuckDB's, which goes away.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from themisto.errors import Conflict, Failed, Invalid, MissingSetting, Unavailable
from themisto.features.engine import Bounds, scratch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["SparkJob", "master_of", "session"]

_MASTER = re.compile(r"local(\[(\d+|\*)\])?|spark://[\w.-]+:\d+(,[\w.-]+:\d+)*|yarn|k8s://https?://[\w.:/-]+")
_MEMORY_GIB = 2.0
_HEAP = 0.8  # its share of the memory: threads, code and buffers are not in what Java counts
_POLL_S = 0.1
_REACH_S = 5.0
_SQL: Mapping[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",  # Arrow and DuckDB know one calendar
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.compression.codec": "snappy",
}
_lock = threading.Lock()
_kept = ExitStack()
atexit.register(_kept.close)


def master_of(engine: str) -> str:
    """Spark's master URL in `spark+…`. Raises Invalid for what is none.

    >>> master_of("spark+local[2]"), master_of("spark+spark://host:7077")
    ('local[2]', 'spark://host:7077')
    """
    kind, _, master = engine.partition("+")
    if kind != "spark" or not _MASTER.fullmatch(master):
        raise Invalid(
            f"'{engine}' is no engine of joins.",
            "Write spark+local[2] or spark+spark://host:7077, or leave THEMISTO_FEATURES_ENGINE unset for DuckDB.",
        )
    return master


def session(engine: str, bounds: Bounds) -> SparkSession:
    """This kernel's session, with settings of our own beside those that the kernel's other code may have made.

    Raises MissingSetting without PySpark or Java, Conflict where the kernel's Spark has another master,
    Unavailable where none answers, Failed where it does not start.
    """
    master = master_of(engine)
    with _lock:
        try:
            from pyspark import SparkContext
            from pyspark.sql import SparkSession
        except ImportError:
            raise MissingSetting("Joins by Spark need PySpark.", "pip install 'themisto[spark]'.") from None
        context = SparkContext._active_spark_context  # the one that a process may have
        if context is None or _is_gone(context):
            context = _started(master, bounds)
        elif context.master != master:
            raise Conflict(
                f"This kernel has a Spark session on {context.master} already, and joins are to run on {master}.",
                "Stop it (spark.stop()), or set THEMISTO_FEATURES_ENGINE to its master.",
            )
        mine = SparkSession(context).newSession()
        for name, value in _SQL.items():
            mine.conf.set(name, value)
        if master.startswith("local"):  # Spark's own default is for a cluster
            mine.conf.set("spark.sql.shuffle.partitions", str(4 * context.defaultParallelism))
        return mine


def _is_gone(context: Any) -> bool:
    """Whether its cluster gave it up, or Java was killed; then what is left of it here is put away."""
    java = getattr(context._gateway, "proc", None)
    killed = java is not None and java.poll() is not None
    if not killed and not context._jsc.sc().isStopped():
        return False
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        context.stop()
    of = type(context)
    of._active_spark_context = None
    if killed:
        of._gateway = of._jvm = None
    return True


def _started(master: str, bounds: Bounds) -> Any:
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    _check_java()
    _check_answers(master)
    _kept.close()
    folder = _kept.enter_context(scratch(bounds))
    log = folder / "spark.log"
    conf = SparkConf().setMaster(master).setAppName("themisto")
    for name, value in _static(master, bounds, folder).items():
        conf.set(name, value)
    try:
        with log.open("wb") as lines:
            gateway = SparkContext._gateway or launch_gateway(conf, popen_kwargs={"stdout": lines, "stderr": lines})
        context = SparkContext(conf=conf, gateway=gateway)
    except Exception as error:  # noqa: BLE001 - whatever kept it from starting
        said = _last_line(log) or str(error).strip().splitlines()[-1]
        _kept.close()
        raise Failed(f"Spark did not start: {said}", f"See that {master} answers, and Java is 17 or later.") from None
    if _is_gone(context):
        raise Unavailable(
            f"The Spark master {master} did not take this kernel.", "See its log, and its version of Spark."
        )
    return context


def _static(master: str, bounds: Bounds, folder: Path) -> dict[str, str]:
    said = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    if master.startswith("local"):
        said |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": f"{int((bounds.memory_gib or _MEMORY_GIB) * _HEAP * 1024)}m",
            "spark.local.dir": str(folder),
        }
    return said


def _check_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=f"{home}/bin" if home else None) is None:
        raise MissingSetting(
            f"Spark needs Java 17 or later, and there is none in {home if home else 'this PATH'}.",
            "apt-get install openjdk-17-jre-headless, or set JAVA_HOME to one.",
        )


def _check_answers(master: str) -> None:
    """Spark itself tries for a minute. Raises Unavailable where no master is to be reached."""
    _, separator, hosts = master.partition("spark://")
    for host, _, port in (address.rpartition(":") for address in hosts.split(",") if separator):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=_REACH_S):
            return
    if separator:
        raise Unavailable(
            f"No Spark master answers at {master}.", "See that it runs, and that THEMISTO_FEATURES_ENGINE is right."
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip()[:300] if lines else ""


class SparkJob:
    """What Spark does for one join: how far it is, and the way to stop it.

    A thread of its own asks and tells Spark: a call to Java that Ctrl-C cuts in two would answer the next one.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._stopped = threading.Event()
        self._ended = threading.Event()

    def stop(self) -> None:
        """Cancel what runs, and what would begin after it."""
        self._stopped.set()

    @contextmanager
    def running(self, spark: SparkSession) -> Iterator[None]:
        """What this thread lets Spark do within the block is this job."""
        context, group = spark.sparkContext, f"themisto-{uuid4().hex}"
        watcher = threading.Thread(target=self._watch, args=(context, group), name="Spark's job", daemon=True)
        context.setJobGroup(group, "themisto: a point-in-time join", interruptOnCancel=True)
        watcher.start()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - told in our words, or raised as it is
            raise _told(error) from None
        finally:
            self._ended.set()
            watcher.join()
            context.setLocalProperty("spark.jobGroup.id", None)

    def _watch(self, context: Any, group: str) -> None:
        tracker = context.statusTracker()
        while not self._ended.wait(_POLL_S):
            if self._stopped.is_set():
                context.cancelJobGroup(group)
            jobs = [job for job in map(tracker.getJobInfo, tracker.getJobIdsForGroup(group)) if job]
            stages = [s for s in map(tracker.getStageInfo, {i for job in jobs for i in job.stageIds}) if s]
            tasks = sum(s.numTasks for s in stages)
            if tasks:
                self.share = max(self.share, sum(s.numCompletedTasks for s in stages) / tasks)


def _told(error: Exception) -> Exception:
    """Spark's refusals in our words; anything else as it is."""
    if not type(error).__module__.startswith(("pyspark", "py4j")):
        return error
    text = str(error)
    if "FileNotFound" in text or "PATH_NOT_FOUND" in text or "FILE_NOT_EXIST" in text:
        return Failed(
            "Spark's executors do not see the rows' files.",
            "THEMISTO_HOME and THEMISTO_FEATURES_SPILL have to be on a file system that all of them share.",
        )
    if "OutOfMemoryError" in text:
        return Failed(
            "The join does not fit into Spark's memory.", "Raise THEMISTO_FEATURES_MEMORY_GIB, or use a cluster."
        )
    if "No space left" in text:
        return Failed("There is no room left where Spark puts rows.", "Set THEMISTO_FEATURES_SPILL to a larger disk.")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("Caused by:", ": "))]
    return Failed(
        f"Spark could not do the join: {(causes or lines or ['?'])[-1][:300]}", "See Spark's own log for more."
    )
