"""The options of a deploy: one list, which Python's keywords and the line's words fill."""

from __future__ import annotations

import inspect

import pytest

import themisto
from themisto.errors import Invalid
from themisto.serving.cell_magic import CELL, options_of
from themisto.serving.order import Options, Order

NOT_ON_THE_LINE = {"tolerance", "cell"}
"""A person widens the tolerance in Python, with its reason beside it; the cell is what the line stands on."""


def test_the_line_without_words_says_what_no_keywords_say():
    assert options_of(CELL.parse_line("credit --sample X")) == Options()


def test_every_option_can_be_said_on_the_line():
    line = (
        "credit --sample X --features flights --profile cpu-small --tier prod --steps 5,100 --manual --dwell 2h"
        " --tolerate errors=1% --slo p99=10ms --batch max=8 --warmup 3 --default {} --rule by_hand"
        " --fallback-after 200ms --personal name=hash --gate 'auc >= 0.8' --holdout held --label late --by region"
        " --native --new-version --dry-run"
    )
    by_steps, by_weight = options_of(CELL.parse_line(line)), options_of(CELL.parse_line("credit --sample X --ab 30"))
    said = by_steps.model_fields_set | {"weight_pct"}
    assert said - NOT_ON_THE_LINE == Options.model_fields.keys() - NOT_ON_THE_LINE
    assert (by_steps.fallback_after_ms, by_steps.gates, by_steps.default) == (200, ["auc >= 0.8"], "{}")
    assert (by_weight.strategy, by_weight.weight_pct) == ("ab", 30)


def test_every_option_is_a_keyword_of_deploy_and_told_in_its_help():
    keywords = [p.name for p in inspect.signature(themisto.deploy).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert keywords == list(Options.model_fields)
    for name, field in Options.model_fields.items():
        assert field.description, name
        assert f"{name}: {field.description}" in themisto.deploy.__doc__


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"stratgy": "ab"}, "no option 'stratgy'. Did you mean strategy?"),
        ({"xyzzy": "red"}, "no option 'xyzzy'. There are: features, profile"),
        ({"strategy": "slowly"}, "strategy: Input should be 'canary', 'shadow', 'ab' or 'replace'"),
        ({"slo": 3}, "slo: Input should be a valid"),
        ({"fallback_after_ms": float("nan")}, "fallback_after_ms: Input should be a finite number"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_option(said, says):
    with pytest.raises(Invalid) as caught:
        Options.of(said)
    assert says in str(caught.value)


def test_what_the_line_names_gets_its_value_and_nothing_else_changes():
    order = Order.of("credit", "data-science", Options(rule="by_hand", holdout="held", gates="auc >= 0.8", label="y"))
    given = order.given(rule=len, holdout=[1])
    assert (given.options.rule, given.options.holdout) == (len, [1])
    assert given.model_copy(update={"options": order.options}) == order
