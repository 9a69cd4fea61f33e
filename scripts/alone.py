"""What the bare wheel must do without a hub: load, track, features; and say what deploy and schedule miss."""

from __future__ import annotations

import time

from IPython.core.interactiveshell import InteractiveShell

CELLS = {
    "%%track": """%%track -e alone -n first --data frame
import lightgbm as lgb
import mlflow
model = lgb.LGBMClassifier(n_estimators=5, verbose=-1, min_child_samples=1).fit(frame[["x"]], frame.y)
mlflow.log_metric("accuracy", model.score(frame[["x"]], frame.y))
""",
    "features": """
import themisto
person = themisto.Entity(name="person", keys=["id"])
spending = themisto.FeatureView("spending", entity=person, at="at", features=["amount"], source=events)
scoring = themisto.FeatureService("scoring", features=["spending"])
""",
    "apply": "%features apply person spending scoring",
    "%%features": "%%features joined --service scoring --at asked_at\nSELECT id, asked_at FROM asked",
}


def main() -> None:
    """Run the cells; an assertion says which of them failed."""
    shell = InteractiveShell.instance()
    began = time.perf_counter()
    shell.run_line_magic("load_ext", "themisto")
    print(f"%load_ext themisto: {time.perf_counter() - began:.3f} s")
    shell.run_cell(
        "import pandas as pd\n"
        "frame = pd.DataFrame({'x': range(40), 'y': [int(i > 20) for i in range(40)]})\n"
        "day = pd.Timestamp('2024-01-01', tz='UTC')\n"
        "events = pd.DataFrame({'id': [1, 1], 'at': [day, day + pd.Timedelta('2D')], 'amount': [1.0, 2.0]})\n"
        "asked = pd.DataFrame({'id': [1, 1], 'asked_at': [day + pd.Timedelta('1D'), day + pd.Timedelta('3D')]})\n"
    ).raise_error()
    for name, cell in CELLS.items():
        result = shell.run_cell(cell)
        assert result.success, f"{name}: {result.error_in_exec}"
    joined = shell.user_ns["joined"]
    assert list(joined.amount) == [1.0, 2.0], joined
    for line, word in (("%deploy status x", "THEMISTO_URL"), ("%schedule list", "THEMISTO_URL")):
        result = shell.run_cell(line)
        assert word in str(result.error_in_exec), result
    print("the wheel works alone")


if __name__ == "__main__":
    main()
