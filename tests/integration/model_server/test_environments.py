"""Packed environments: what is wanted is made by the real uv, once, of pins alone, and read by what runs in it."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from themisto.errors import Failed, Invalid, Unavailable
from themisto_hub.model_server import environments
from themisto_hub.model_server.environments import Packer, digest, folder, mark_of, require
from themisto_hub.model_server.unused import Unused, keep_only
from themisto_hub.settings import Deployment

PINS = b"# python 3.11\nsix==1.17.0\n"


@pytest.fixture
def settings(tmp_path):
    return Deployment(state=tmp_path)


def packed(settings, requirements, packer):
    """What `require` says once the packer is done: nothing, or the failure."""
    with pytest.raises(Unavailable, match="being packed"):
        require(settings, requirements)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        packer.step(0.05)
        time.sleep(0.05)
        try:
            require(settings, requirements)
        except Unavailable:
            continue
        except Failed as error:
            return error
        return None
    raise AssertionError("it was never packed")


def test_packed_once_and_kept_by_its_digest(settings):
    packer = Packer(settings, apart=False)
    assert packed(settings, PINS, packer) is None
    place = folder(settings) / digest(PINS)
    told = [str(place / "bin" / "python"), "-I", "-c", "import six, sys; print(six.__version__, sys.prefix)"]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.17.0", str(place)]
    made = (place / "ready").stat().st_mtime_ns
    for _ in range(3):
        packer.step(0.05)
    assert (place / "ready").stat().st_mtime_ns == made


def test_what_cannot_be_had_is_told_and_the_next_wish_is_a_new_try(settings):
    packer = Packer(settings, apart=False)
    wanted = b"# python 3.11\nsix==0.0.0.1\n"
    error = packed(settings, wanted, packer)
    assert isinstance(error, Failed)
    assert "six" in error.detail
    assert not (folder(settings) / digest(wanted)).exists()
    assert isinstance(packed(settings, wanted, packer), Failed)


def test_one_that_was_cut_short_is_made_anew(settings):
    half = folder(settings) / digest(PINS)
    (half / "bin").mkdir(parents=True)
    assert packed(settings, PINS, Packer(settings, apart=False)) is None


@pytest.mark.parametrize(
    "line",
    ["--index-url=http://elsewhere", "-e /etc", "six @ file:///tmp/six.whl", "six>=1", "six==1.0 --no-binary", ""],
)
def test_only_pins_are_packed(settings, line):
    with pytest.raises(Invalid, match="no list of pins"):
        require(settings, f"# python 3.11\n{line}\n".encode())
    assert not (settings.folder("pool") / "environments").exists()


def test_a_wish_that_is_not_its_name_is_left_alone(settings):
    wishes = settings.folder("pool") / "environments"
    wishes.mkdir(parents=True)
    (wishes / f"{'0' * 64}.txt").write_bytes(PINS)
    packer = Packer(settings, apart=False)
    packer.step(0.05)
    assert not (folder(settings) / ("0" * 64)).exists()
    assert environments.digest(PINS) != "0" * 64


def test_unused_ones_are_deleted_days_later_and_never_under_a_deploy(settings):
    packer, unused = Packer(settings, apart=False), Unused(settings)
    assert packed(settings, PINS, packer) is None
    packer.stop()
    place = folder(settings) / digest(PINS)
    mark = mark_of(place)
    keep_only(settings, [])
    unused.step(1)
    assert mark.exists()

    with pytest.raises(Unavailable):  # a deploy while it is marked: it waits until the pool has seen its wish
        require(settings, PINS)
    with pytest.raises(Unavailable):
        require(settings, PINS)
    unused.step(1)
    require(settings, PINS)

    keep_only(settings, [])
    unused.step(1)
    unused.step(1)
    assert place.exists()
    long_ago = time.time() - settings.environment_grace_days * 86_400 - 1
    os.utime(mark, (long_ago, long_ago))
    unused.step(1)
    assert not place.exists()
    assert not mark.exists()
    assert packed(settings, PINS, packer) is None
