"""The contract with callers: each way to break it is named, each way to keep it passes."""

from __future__ import annotations

import pytest

from themisto.serving.contract import Contract, breaks
from themisto.serving.models import Column, Signature

INPUTS = {"age": "INT64", "income": "FP64"}
OUTPUTS = {"label": "INT64", "score": "FP32"}


def columns(kinds):
    return tuple(
        Column(name=name, dtype=kind) if isinstance(kind, str) else Column(name=name, dtype=kind[0], shape=kind[1])
        for name, kind in kinds.items()
    )


def contract(inputs=INPUTS, outputs=OUTPUTS, **fields):
    return Contract(signature=Signature(inputs=columns(inputs), outputs=columns(outputs)), **fields)


@pytest.mark.parametrize(
    "new",
    [
        contract(),
        contract(inputs=dict(reversed(INPUTS.items()))),
        contract(outputs=OUTPUTS | {"reasons": "BYTES"}),
        contract(supplied=frozenset({"age"}), keys=("customer",)),
    ],
    ids=["the same", "inputs in another order", "one more output", "features may be looked up now"],
)
def test_what_callers_do_not_notice_is_no_break(new):
    assert breaks(contract(), new) == ()


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (contract(inputs=INPUTS | {"region": "BYTES"}), "the input 'region' (BYTES) is newly required"),
        (contract(inputs={"age": "INT64"}), "the input 'income' is gone"),
        (contract(inputs={"age": "INT64", "salary": "FP64"}), "the input 'income' is called 'salary'"),
        (contract(inputs=INPUTS | {"income": "FP32"}), "the input 'income' is FP32 and was FP64"),
        (contract(inputs=INPUTS | {"age": "FP64"}), "the input 'age' is FP64 and was INT64"),
        (contract(inputs=INPUTS | {"age": ("INT64", (3,))}), "the input 'age' is INT64 of shape [3] and was INT64"),
        (contract(outputs={"label": "INT64"}), "the output 'score' is gone"),
        (contract(outputs=OUTPUTS | {"label": "BYTES"}), "the output 'label' is BYTES and was INT64"),
        (contract(outputs=OUTPUTS | {"score": ("FP32", (2,))}), "the output 'score' is FP32 of shape [2] and was FP32"),
        (contract(outputs=OUTPUTS | {"label": ("INT64", ())}), "the output 'label' is INT64 of shape [] and was INT64"),
    ],
)
def test_each_difference_that_breaks_a_caller_is_named(new, says):
    (said,) = breaks(contract(), new)
    assert said.startswith(says)


def test_all_breaks_are_named_at_once():
    said = breaks(contract(), contract(inputs={"a": "BOOL", "b": "BOOL", "c": "BOOL"}, outputs={}))
    assert len(said) == 2 + 3 + 2


def looked_up(inputs=INPUTS, keys=("customer",), supplied=("age", "income", "customer")):
    return contract(inputs, supplied=frozenset(supplied), keys=keys)


def test_inputs_that_the_feature_service_supplies_do_not_count():
    more = looked_up(INPUTS | {"region": "BYTES"}, supplied=("age", "income", "region", "customer"))
    assert breaks(looked_up(), more) == ()
    assert breaks(looked_up(), looked_up({"age": "FP64"})) == ()


def test_an_input_that_no_feature_service_supplies_counts():
    (said,) = breaks(looked_up(), looked_up(INPUTS | {"amount": "FP64"}))
    assert said == "the input 'amount' (FP64) is newly required"


def test_callers_who_send_all_inputs_are_not_helped_by_a_new_feature_service():
    new = looked_up(INPUTS | {"region": "BYTES"}, supplied=("region", "customer"))
    (said,) = breaks(contract(), new)
    assert "'region' (BYTES) is newly required" in said


def test_other_entity_keys_break():
    (said,) = breaks(looked_up(), looked_up(keys=("account", "branch")))
    assert said == "callers send the entity keys customer, and it looks features up by account and branch"


def test_a_lost_feature_service_breaks():
    (said,) = breaks(looked_up(), contract())
    assert said == "callers send customer alone, and it has no feature service to look the rest up"
