"""`python -m tests.benchmarks [NAME...]`: run them, print ours, the peer's and the ratio, keep both.

All of them together write the table of docs/benchmarks.md; some of them only build/bench.json.
"""

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
    "feature_stream",
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
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []])
    names = parser.parse_args().names
    record = Record()
    for name in names or BENCHMARKS:
        print(f"{name} …", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").run(record)
    record.write(table=not names)


if __name__ == "__main__":
    main()
