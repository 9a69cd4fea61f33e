"""Which models and metrics a body made."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from themisto.tracking.flavors import flavor_of, is_fitted, requirements_for
from themisto.tracking.lineage import LineageMap
from themisto.tracking.models import Lineage
from themisto.tracking.results import fitted_names, made_by, metrics_in

X, Y = [[0.0], [1.0]], [0, 1]


def fitted(**kwargs):
    return LogisticRegression(**kwargs).fit(X, Y)


def test_the_last_value_is_the_model_by_its_variables_name():
    model, other = fitted(), fitted()
    made = made_by(model, {}, {"model": model, "other": other}, "")
    assert made.logged == {"model": model}
    assert set(made.all) == {"model", "other"}


def test_without_a_model_as_value_new_fitted_models_are_logged():
    old, new = fitted(), fitted()
    names = {"old": old, "new": new, "alias": new, "raw": LogisticRegression(), "_hidden": fitted()}
    made = made_by({"auc": 0.5}, {"old": id(old)}, names, "")
    assert made.logged == {"new": new}


def test_a_model_fitted_in_place_came_from_the_run():
    model = fitted()
    assert made_by(None, {"model": id(model)}, {"model": model}, "model.fit(X, y)").all == {"model": model}
    assert made_by(None, {"model": id(model)}, {"model": model}, "print(model)").all == {}
    assert fitted_names("a.b.fit(x)\nc.fit(x)\n%time d") == set()


def test_a_returned_function_is_a_model():
    def rule(frame):
        return frame

    assert made_by(rule, {}, {"rule": rule}, "").logged == {"rule": rule}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"auc": 0.5, "n": 3}, {"auc": 0.5, "n": 3.0}),
        ((None, {"auc": np.float32(0.5)}), {"auc": 0.5}),
        ({"auc": "high"}, {}),
        ({"ok": True}, {}),
        ({}, {}),
        (3.0, {}),
    ],
)
def test_a_dict_of_numbers_is_metrics(value, found):
    assert dict(metrics_in(value)) == found


def test_flavors_are_told_by_class_alone():
    assert flavor_of(fitted()) == "sklearn"
    assert flavor_of(lambda frame: frame) == "function"
    assert flavor_of(LogisticRegression) is None
    assert flavor_of({"a": 1}) is None
    assert not is_fitted(LogisticRegression())
    assert any(pin.startswith("scikit-learn==") for pin in requirements_for(fitted()))


def test_lineage_is_of_the_object_and_only_while_it_is_unchanged():
    lineages, model = LineageMap(), fitted()
    lineage = Lineage(run_id="r")
    lineages.remember(model, lineage)
    assert lineages.of(model) == lineage
    assert lineages.of(fitted()) is None
    model.fit([[0.0], [5.0]], Y)
    assert lineages.of(model) is None


def test_lineage_keeps_no_model_alive():
    lineages = LineageMap()
    lineages.remember(fitted(), Lineage(run_id="r"))
    assert not lineages._known
