"""How many request ids are remembered."""

from themisto_hub.streams.seen import Seen


def test_the_newest_are_remembered():
    seen = Seen(2, ["a", "b", "c"])
    assert "a" not in seen
    assert "b" in seen
    assert "c" in seen


def test_one_that_comes_again_is_new_again():
    seen = Seen(2, ["a", "b"])
    seen.add(["a"])
    seen.add(["c"])
    assert "a" in seen
    assert "b" not in seen


def test_no_window_remembers_nothing():
    assert "a" not in Seen(0, ["a"])
