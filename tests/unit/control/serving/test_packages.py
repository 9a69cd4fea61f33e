"""Which packed environments the control plane has kept."""

from __future__ import annotations

import hashlib

import pytest

from themisto.errors import NotFound
from themisto.serving.models import Artifact, Fallback
from themisto.serving.packed import pack
from themisto_hub.control.serving.packages import Packages
from themisto_hub.model_server.environments import digest, folder, wish_of, wishes


@pytest.fixture
def packages(world):
    return Packages(world.control, world.artifacts)


def native(world, pins):
    """An artifact with these pins, stored; and their environment, packed and wished for."""
    data = pack({"function.py": "", "signature.json": "{}", "requirements.txt": pins})
    sha256 = hashlib.sha256(data).hexdigest()
    (world.control.settings.folder("control") / "artifacts" / sha256).write_bytes(data)
    (folder(world.control.settings) / digest(pins)).mkdir(parents=True, exist_ok=True)
    wish_of(world.control.settings, digest(pins), pins)
    return Artifact(kind="python", sha256=sha256, size_bytes=len(data))


def pins_of(number):
    return f"# python 3.11\nsix==1.{number}.0\n".encode()


def kept(world):
    return {wish.stem for wish in wishes(world.control.settings).iterdir()}


def test_what_answers_arrives_or_may_come_back_is_kept_and_nothing_else(world, packages):
    first, second, third, rule = (native(world, pins_of(n)) for n in range(1, 5))
    world.live(cell="1", artifact=first)
    world.promoted(cell="2", artifact=second)
    world.promoted(cell="3", artifact=third, fallback=Fallback(rule=rule))
    packages.keep()
    assert kept(world) == {digest(pins_of(n)) for n in (2, 3, 4)}
    world.release(cell="1", artifact=first)
    packages.keep()
    assert kept(world) == {digest(pins_of(n)) for n in (1, 2, 3, 4)}


def test_a_wish_that_went_too_early_comes_back(world, packages):
    world.live(artifact=native(world, pins_of(1)))
    (wishes(world.control.settings) / f"{digest(pins_of(1))}.txt").unlink()
    packages.keep()
    assert kept(world) == {digest(pins_of(1))}


def test_retired_endpoints_keep_nothing(world, packages):
    world.live(artifact=native(world, pins_of(1)))
    world.rollouts.retire(world.caller(), "credit")
    packages.keep()
    assert kept(world) == set()


def test_artifact_that_cannot_be_read_gives_nothing_up(world, packages):
    artifact = native(world, pins_of(1))
    world.live(artifact=artifact)
    native(world, pins_of(2))
    (world.control.settings.folder("control") / "artifacts" / artifact.sha256).unlink()
    with pytest.raises(NotFound):
        packages.keep()
    assert kept(world) == {digest(pins_of(1)), digest(pins_of(2))}
