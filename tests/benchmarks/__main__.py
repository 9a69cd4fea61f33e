"""`python -m tests.benchmarks [NAME...]`: run them, print ours, the peer's and the ratio, keep both."""

import argparse
import importlib

from tests.benchmarks.record import Record

BENCHMARKS = [
    "load_ext",
    "pit_join",
    "spark_join",
    "online_read",
    "cassandra_read",
    "cassandra_ring",
    "compile_steps",
    "scheduled_notebook",
    "gateway",
    "beside",
    "endpoints",
    "entity",
    "workbench",
    "restart",
    "endurance",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], default=BENCHMARKS)
    names = parser.parse_args().names or BENCHMARKS
    record = Record()
    for name in names:
        print(f"{name} …", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").run(record)
    record.write()


if __name__ == "__main__":
    main()
