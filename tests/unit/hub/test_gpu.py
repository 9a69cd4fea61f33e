"""GPU leases: what is found, who holds it, and when it is given back."""

import sys

import pytest
from tests.fakes.nvml import FakeGpu, FakeNvml

from themisto.errors import Conflict, NotFound
from themisto.profiles import Gpu
from themisto_hub.spawners.gpu import Device, Leases, inventory


@pytest.fixture
def machine(monkeypatch):
    nvml = FakeNvml(
        [FakeGpu("a"), FakeGpu("b", slices=["1g.10gb", None, "1g.10gb", "3g.40gb"]), FakeGpu("old", knows_mig=False)]
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


def test_whole_gpus_and_slices_are_found(machine):
    assert inventory() == [
        Device("GPU-a", None, 0),
        Device("MIG-b-0", "1g.10gb", 1),
        Device("MIG-b-2", "1g.10gb", 1),
        Device("MIG-b-3", "3g.40gb", 1),
        Device("GPU-old", None, 2),
    ]
    assert machine.open == 0


def test_a_machine_without_a_driver_has_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([], driver=False))
    assert inventory() == []


def test_two_servers_never_get_the_same_slice(machine):
    leases = Leases(inventory)
    first, second = leases.take("1", Gpu(mig="1g.10gb")), leases.take("2", Gpu(mig="1g.10gb"))
    assert {first[0].uuid, second[0].uuid} == {"MIG-b-0", "MIG-b-2"}
    with pytest.raises(Conflict, match=r"All of this machine's 2 MIG 1g\.10gb slices are in use"):
        leases.take("3", Gpu(mig="1g.10gb"))


def test_a_freed_device_is_leased_again(machine):
    leases = Leases(inventory)
    leases.take("1", Gpu(mig="3g.40gb"))
    leases.free("1")
    assert leases.take("2", Gpu(mig="3g.40gb"))[0].uuid == "MIG-b-3"


def test_a_server_that_starts_again_keeps_one_lease(machine):
    leases = Leases(inventory)
    for _ in range(3):
        leases.take("1", Gpu())
    assert leases.held("1") == ["GPU-a"]


def test_several_gpus_are_leased_together_or_not_at_all(machine):
    leases = Leases(inventory)
    assert [d.uuid for d in leases.take("1", Gpu(count=2))] == ["GPU-a", "GPU-old"]
    with pytest.raises(Conflict):
        leases.take("2", Gpu())


def test_what_a_server_held_before_the_hub_restarted_is_not_given_to_another(machine):
    leases = Leases(inventory)
    leases.keep("1", ["GPU-a"])
    assert [d.uuid for d in leases.take("2", Gpu())] == ["GPU-old"]


def test_asking_for_more_than_there_is_says_so(machine):
    with pytest.raises(NotFound, match=r"This machine has no MIG 7g\.80gb slice, and the profile needs 1 x MIG"):
        Leases(inventory).take("1", Gpu(mig="7g.80gb"))
    with pytest.raises(NotFound, match="This machine has 2 NVIDIA GPUs, and the profile needs 3 x GPU"):
        Leases(inventory).take("1", Gpu(count=3))
