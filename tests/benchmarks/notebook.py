"""Notebook: a whole workbench and a kernel in it, for benchmarks that ask through cells."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

from themisto_hub.tour.house import House
from themisto_hub.tour.people import People

BODY = json.dumps(
    {"inputs": [{"name": n, "shape": [1, 1], "datatype": "FP64", "data": [0.5]} for n in ("a", "b")]}
).encode()
"""A request to what `trained` gives."""

_MODEL = """
import numpy as np, pandas as pd, lightgbm as lgb, themisto
rng = np.random.default_rng(7)
X = pd.DataFrame({"a": rng.normal(size=500), "b": rng.normal(size=500)})
y = (X.a + X.b > 0).astype(int)
def trained(trees):
    return lgb.LGBMClassifier(n_estimators=trees, verbose=-1).fit(X, y)
"""


class Notebook:
    """A kernel with the sample `X` and `trained(trees)`."""

    def __init__(self, house: House, kernel: object) -> None:
        self.house, self._kernel = house, kernel
        self.cell(_MODEL)

    def cell(self, source: str) -> str:
        outputs, _, failed = self._kernel.run(source, "bench")
        text = "".join(o.get("text", "") for o in outputs)
        if failed:
            raise RuntimeError(text + str([o.get("evalue") for o in outputs]))
        return text

    def headers(self) -> dict[str, str]:
        said = self.cell("from themisto.workbench import workbench\nprint(workbench().control.gateway_token())")
        return {"Authorization": f"Bearer {said.split()[-1]}"}

    def url(self, endpoint: str) -> str:
        return f"http://127.0.0.1:{self.house.settings.ports.gateway_http}/v2/models/{endpoint}/infer"


@contextmanager
def notebook() -> Iterator[Notebook]:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        house = House(Path(folder) / "state")
        try:
            house.start()
            person = People(house).first
            person.log_in()
            person.ensure_server("cpu-small")
            person.upload("bench.ipynb", nbformat.v4.new_notebook())
            yield Notebook(house, person.kernel("bench.ipynb"))
        finally:
            house.stop()
