"""Mistakes a person makes, in a real kernel of a real workbench: one sentence, nothing half-done."""

import pytest

CELLS = {
    "unknown_endpoint": ("%deploy status nothere", "nothere"),
    "near_endpoint": ("%deploy status prob", "Did you mean probe?"),
    "unknown_endpoint_to_move": ("%deploy rollback nothere", "nothere"),
    "unknown_variable": ("%%deploy probe --sample X_typo\nmodel", "X_typo"),
    "near_variable": ("%%deploy probe --sample wrong_colums\nmodel", "Did you mean wrong_columns?"),
    "unknown_service": ("%features get noservice id=1", "noservice"),
    "unknown_service_to_deploy": ("%%deploy probe --sample X --features noservice\nmodel", "noservice"),
    "unknown_view": ("%features show noview", "noview"),
    "unknown_profile": ("%%deploy probe --sample X --profile huge\nmodel", "huge"),
    "unknown_profile_for_a_job": ('%schedule scratch.ipynb --cron "0 2 * * *" --profile huge', "huge"),
    "unknown_schedule": ("%schedule run nothere", "nothere"),
    "unknown_notebook": ('%schedule nothere.ipynb --cron "0 2 * * *"', "nothere.ipynb"),
    "unknown_run": ("%track register 0123456789abcdef0123456789abcdef probe", "not there"),
    "wrong_columns": ("%%deploy probe --sample wrong_columns\nmodel", "column"),
    "no_frame": ("%%deploy probe --sample y_list\nmodel", "DataFrame"),
    "empty_sample": ("%%deploy probe --sample nothing\nmodel", "row"),
    "nothing_exports_it": ("%%deploy probe --sample X\nobject()", "export"),
    "no_last_value": ("%%deploy probe --sample X\nz = model", "last"),
    "no_cron": ('%schedule scratch.ipynb --cron "every day"', "cron"),
    "no_zone": ('%schedule scratch.ipynb --cron "0 2 * * *" --tz Mars/Base', "Mars/Base"),
    "no_identifier": ('%schedule scratch.ipynb --cron "0 2 * * *" -p "a b=1"', "name of letters, digits"),
    "keyword_as_identifier": ('%schedule scratch.ipynb --cron "0 2 * * *" -p class=1', "word of Python"),
    "no_endpoint_name": ("%%deploy Probe! --sample X\nmodel", "endpoint name"),
    "no_share": ("%%deploy probe --sample X --canary 300\nmodel", "300"),
    "no_unit": ("%%deploy probe --sample X --slo p99=10parsecs\nmodel", "10parsecs"),
    "unknown_option": ("%deploy status probe --nope", "%deploy status has no option --nope"),
    "open_quote": ("%deploy status 'probe", "quote"),
    "shell_text": ("%deploy status 'x; $(touch /tmp/owned) `id`'", "x; $(touch"),
}


@pytest.fixture(scope="module")
def wrong(say, probe):
    say("wrong_columns = X.rename(columns={'a': 'other'})\nnothing = X.head(0)\ny_list = list(y)")


@pytest.mark.parametrize("name", CELLS)
def test_a_mistake_is_one_sentence_without_traceback(wrong, refused, name):
    cell, word = CELLS[name]
    assert word in refused(cell)


def test_nothing_came_of_all_these(wrong, say):
    workbench = "themisto.workbench.workbench()"
    assert say(f"print({workbench}.serving.status('probe').rollout.state)") == "done"
    assert "scratch" not in say(f"print([s.name for s in {workbench}.schedules.list()])")


def test_a_model_that_fails_parity_is_refused_with_the_worst_rows_and_creates_nothing(wrong, say, refused):
    say(
        "from sklearn.compose import ColumnTransformer\n"
        "from sklearn.pipeline import Pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "import xgboost\n"
        "big = pd.DataFrame({'hour': rng.integers(0, 24, 4000), 'dist': rng.integers(0, 3000, 4000)})\n"
        "label = (big.hour * 60 + big.dist + rng.normal(scale=500, size=4000) > 2000).astype(int)\n"
        "scaled = ColumnTransformer([('numbers', StandardScaler(), ['hour', 'dist'])])\n"
        "fragile = Pipeline([('scaled', scaled), ('model', xgboost.XGBClassifier(n_estimators=50))]).fit(big, label)"
    )
    told = refused("%%deploy fragile --sample big\nfragile", longest=1500)
    assert "of 4,000 rows otherwise than the model" in told
    assert "The worst rows" in told
    assert "hour" in told
    assert "There is no endpoint 'fragile'" in refused("%deploy status fragile")
    assert say("import mlflow; print(mlflow.MlflowClient().search_model_versions(\"name='fragile'\"))") == "[]"
