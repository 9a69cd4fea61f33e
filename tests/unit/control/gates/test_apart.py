"""Code that answers a hold-out apart: what carries traffic stays loaded, what does not is gone afterwards."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from themisto_hub.control.serving.tritons import Tritons


class Recorded:
    """A group's model server that writes down what it is asked."""

    def __init__(self):
        self.said = []

    @contextmanager
    def borrowed(self, release):
        self.said.append("load")
        try:
            yield
        finally:
            self.said.append("unload")

    def ensure(self, release):
        self.said.append("ensure")

    def infer(self, release, inputs):
        self.said.append("infer")
        return {"y": inputs["x"]}


@pytest.mark.parametrize(
    ("tier", "said"),
    [("dev", ["ensure", "infer", "infer"]), ("prod", ["load", "ensure", "infer", "infer", "unload"])],
)
def test_a_dev_release_stays_loaded_and_a_prod_one_is_only_borrowed(world, monkeypatch, tier, said):
    server = Recorded()
    places = []
    tritons = Tritons(world.control, world.artifacts)
    monkeypatch.setattr(tritons, "_pool", lambda place: places.append(place) or server)
    release = world.release(tier=tier)
    assert list(tritons.answer_apart(release, iter([{"x": [1.0]}, {"x": [2.0]}]))) == [{"y": [1.0]}, {"y": [2.0]}]
    assert server.said == said
    assert places == [("data-science", "dev")]


def test_what_was_borrowed_is_given_back_when_the_asking_stops_half_way(world, monkeypatch):
    server = Recorded()
    tritons = Tritons(world.control, world.artifacts)
    monkeypatch.setattr(tritons, "_pool", lambda _: server)
    answers = tritons.answer_apart(world.release(tier="prod"), iter([{"x": [1.0]}, {"x": [2.0]}]))
    next(answers)
    answers.close()
    assert server.said == ["load", "ensure", "infer", "unload"]
