"""The gate language: what can be written, what it means, and how a mistake is named."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from themisto.errors import Invalid
from themisto.serving.gates import METRICS, Gate, Quality, parse

numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


@st.composite
def gates(draw):
    metric, over = (
        draw(st.sampled_from(sorted(METRICS))),
        draw(st.sampled_from(["rows", "min_slice", "max_slice", "gap"])),
    )
    champion = draw(st.booleans())
    higher = over != "gap" and METRICS[metric].higher_is_better
    op = draw(st.sampled_from(([">=", ">"] if higher else ["<=", "<"]) if champion else [">=", "<=", ">", "<"]))
    sign = draw(st.sampled_from("+-*")) if champion else "+"
    number = draw(numbers)
    return Gate(
        metric=metric, over=over, op=op, champion=champion, sign=sign, number=abs(number) if champion else number
    )


@given(gates())
def test_canonical_text_means_the_same_gate(gate):
    again = parse(str(gate))
    assert str(again) == str(gate)
    assert (again.metric, again.over, again.op, again.champion) == (gate.metric, gate.over, gate.op, gate.champion)
    assert again.limit(0.75) == gate.limit(0.75)


@given(gates(), st.text(alphabet=" \t", max_size=3))
def test_blanks_mean_nothing(gate, blank):
    parts = str(gate).split(" ")
    assert str(parse(blank + blank.join(parts) + blank)) == str(gate)


@given(st.text(max_size=60))
def test_any_other_text_is_refused_in_words(text):
    with pytest.raises(Invalid) as refused:
        parse(f"{text} == 1")  # no gate, whatever stands before it
    assert refused.value.detail.endswith((".", "…"))
    assert refused.value.remedy


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["auc >= champion - 0.005", "auc > champion", "auc >= 0.5"]))
def test_a_better_value_never_fails_where_a_worse_one_passes(low, high, text):
    gate = parse(text)
    low, high = sorted([low, high])
    limit = gate.limit(0.6)
    assert gate.holds(low, limit) <= gate.holds(high, limit)


def test_nan_is_on_no_side():
    assert not any(parse(f"auc {op} 0.5").holds(math.nan, 0.5) for op in (">=", "<=", ">", "<"))


@pytest.mark.parametrize(
    ("text", "canonical", "limit"),
    [
        ("auc>=champion-0.005", "auc >= champion - 0.005", 0.795),
        ("rmse <= champion * 1.02", "rmse <= champion * 1.02", 0.816),
        ("f1 > champion + .01", "f1 > champion + 0.01", 0.81),
        ("auc >= champion", "auc >= champion", 0.8),
        ("gap( recall )<=1e-1", "gap(recall) <= 0.1", 0.1),
        ("r2 >= -0.5", "r2 >= -0.5", -0.5),
        ("accuracy >= 1", "accuracy >= 1", 1.0),
    ],
)
def test_what_can_be_written(text, canonical, limit):
    gate = parse(text)
    assert str(gate) == canonical
    assert gate.limit(0.8) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("aucc >= 0.8", "no metric 'aucc'. Did you mean auc?"),
        ("AUC >= 0.8", "no metric 'AUC'. Did you mean auc?"),
        ("logloss <= 0.3", "Did you mean log_loss?"),
        ("profit >= 3", "There are: auc, average_precision"),
        ("min_slcie(auc) >= 0.7", "Did you mean min_slice?"),
        ("auc >= champoin - 0.01", "Did you mean champion?"),
        ("auc >= champion / 2", "no bound"),
        ("auc >= champion - 0.1 - 0.1", "no bound"),
        ("auc == 0.8", "no gate"),
        ("auc => 0.8", "no gate"),
        ("auc", "no gate"),
        ("", "no gate"),
        ("0.8 <= auc <= 0.9", "no gate"),
        ("auc >= 1e999", "larger than any number"),
        ("auc >= nan", "nothing to compare with"),
        ("auc >= " + "9" * 500, "no gate"),
        ("auc <= champion", "Turn it round: 'auc >= champion'"),
        ("rmse >= champion * 0.9", "Turn it round: 'rmse <= champion"),
        ("gap(recall) >= champion", "Turn it round"),
        ("__import__('os').system('true') >= 1", "no measure"),
        ("auc >= open(1)", "no bound"),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert says in str(caught.value)


def test_a_release_keeps_gates_in_their_canonical_text():
    quality = Quality(gates=("auc>=.8",), holdout_sha256="0" * 64, rows=10, label="y")
    assert quality.gates == ("auc >= 0.8",)


def test_a_posted_gate_that_is_none_is_refused_with_the_same_words():
    with pytest.raises(ValidationError, match="Did you mean auc"):
        Quality(gates=("aucc >= 0.8",), holdout_sha256="0" * 64, rows=10, label="y")
