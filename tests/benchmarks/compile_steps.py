"""100 notebook steps to KFP v2 YAML: ours beside a hand-written KFP pipeline of 100 components."""

from pathlib import Path
from tempfile import TemporaryDirectory

from kfp import compiler, dsl
from tests.benchmarks.record import Record, median_s

from themisto.pipelines.compiler import compile_pipeline
from themisto.pipelines.inference import infer
from themisto.pipelines.models import Pipeline, Step
from themisto.pipelines.notebook import Notebook

STEPS = 100


def run(record: Record) -> None:
    with TemporaryDirectory() as name:
        file = Path(name) / "pipeline.yaml"

        def ours() -> None:
            compile_pipeline(steps(), file, image="themisto/notebook", profiles={})

        def peer() -> None:
            compiler.Compiler().compile(by_hand(), str(file))

        record.add("compile_100_s", "s", median_s(ours, runs=3), median_s(peer, runs=3), "KFP SDK, components by hand")


def steps() -> Pipeline:
    first = [Step(name="s0", source="v0 = 1", at=1)]
    rest = [Step(name=f"s{n}", source=f"v{n} = v{n - 1} + 1", at=1) for n in range(1, STEPS)]
    return infer("hundred", first + rest, Notebook([]))


def by_hand() -> object:
    @dsl.component(base_image="themisto/notebook", install_kfp_package=False)
    def add(before: int) -> int:
        return before + 1

    @dsl.pipeline(name="hundred")
    def hundred() -> None:
        value: object = 0
        for _ in range(STEPS):
            value = add(before=value).output

    return hundred
