"""Source: what a function leans on travels with it."""

import pandas as pd

from themisto.serving.source import standalone


def test_a_class_that_a_notebook_defines_travels_with_the_function(shell):
    """Its newest cell counts; IPython's kernels give a class no file to be found in."""
    cells = [
        "from typing import TypedDict\nclass Advice(TypedDict):\n    leave: float",
        "class Advice(TypedDict):\n    leave: int",
        "class Late:\n    by = 15\ndef advice(df) -> Advice:\n    return {'leave': df['x'].astype('int64') + Late.by}",
    ]
    for cell in cells:
        shell.run_cell(cell, store_history=True).raise_error()
    source = standalone(shell.user_ns["advice"])
    space = {}
    exec(source, space)
    assert space["predict"](pd.DataFrame({"x": [1.0]}))["leave"].tolist() == [16]
    assert "leave: int" in source
    assert "leave: float" not in source
