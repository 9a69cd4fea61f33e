"""GPU leases: whole GPUs and MIG slices of this machine, each to one server at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from themisto.errors import Conflict, NotFound
from themisto.profiles import Gpu

__all__ = ["Device", "Leases", "inventory"]


@dataclass(frozen=True)
class Device:
    """What can be leased: a GPU undivided (mig None) or one slice, by the driver's UUID.

    minor: number of the GPU's device node, /dev/nvidia<minor>.
    """

    uuid: str
    mig: str | None
    minor: int


class Leases:
    """Who holds which device. Two servers never hold the same one.

    inventory: asked at every lease, so that a GPU that was partitioned anew is seen.
    """

    def __init__(self, inventory: Callable[[], list[Device]]) -> None:
        self._inventory = inventory
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()

    def take(self, holder: str, want: Gpu) -> list[Device]:
        """Lease `want` to `holder`; what it held before is given back.

        Raises NotFound where this machine has no such device, Conflict where all are in use.
        """
        with self._lock:
            self._drop(holder)
            fitting = [device for device in self._inventory() if device.mig == want.mig]
            if len(fitting) < want.count:
                raise NotFound(
                    f"This machine has {_count(len(fitting), want)}, and the profile needs {want}.",
                    "Choose a profile without a GPU.",
                )
            free = [device for device in fitting if device.uuid not in self._held]
            if len(free) < want.count:
                raise Conflict(f"All of this machine's {_count(len(fitting), want)} are in use.", "Try again later.")
            for device in free[: want.count]:
                self._held[device.uuid] = holder
            return free[: want.count]

    def keep(self, holder: str, uuids: Iterable[str]) -> None:
        """Note again what a server that outlived the hub holds."""
        with self._lock:
            for uuid in uuids:
                self._held.setdefault(uuid, holder)

    def free(self, holder: str) -> None:
        """Give back all that `holder` has; nothing, if it has nothing."""
        with self._lock:
            self._drop(holder)

    def held(self, holder: str) -> list[str]:
        """UUIDs of the devices that `holder` has."""
        with self._lock:
            return [uuid for uuid, who in self._held.items() if who == holder]

    def _drop(self, holder: str) -> None:
        self._held = {uuid: who for uuid, who in self._held.items() if who != holder}


def inventory() -> list[Device]:
    """The devices of this machine, as NVML names them; empty where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [device for n in range(pynvml.nvmlDeviceGetCount()) for device in _devices(pynvml, n)]
    finally:
        pynvml.nvmlShutdown()


def _devices(nvml: Any, number: int) -> list[Device]:
    """A GPU's slices if it is partitioned, else the GPU."""
    gpu = nvml.nvmlDeviceGetHandleByIndex(number)
    minor = int(nvml.nvmlDeviceGetMinorNumber(gpu))
    try:
        partitioned = nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError:  # a GPU that knows no MIG
        partitioned = False
    if not partitioned:
        return [Device(_text(nvml.nvmlDeviceGetUUID(gpu)), None, minor)]
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            slice_ = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        except nvml.NVMLError:  # this place holds no slice
            continue
        name = _text(nvml.nvmlDeviceGetName(slice_)).rpartition("MIG ")[2].strip()
        found.append(Device(_text(nvml.nvmlDeviceGetUUID(slice_)), name, minor))
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _count(number: int, want: Gpu) -> str:
    kind = f"MIG {want.mig} slice" if want.mig else "NVIDIA GPU"
    return f"{number or 'no'} {kind}{'' if number == 1 else 's'}" if number else f"no {kind}"
