"""A stand-in for NVIDIA's management library: GPUs and MIG slices as `pynvml` names them."""

from __future__ import annotations

from dataclasses import dataclass, field


class NVMLError(Exception):
    """As pynvml raises it."""


@dataclass
class FakeGpu:
    """slices: names of its MIG profiles, None for an empty place; None: not partitioned."""

    uuid: str
    slices: list[str | None] | None = None
    knows_mig: bool = True
    places: list[tuple[str, str]] = field(default_factory=list)


class FakeNvml:
    """The functions of pynvml that we call."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, gpus: list[FakeGpu], *, driver: bool = True) -> None:
        self.gpus = gpus
        self._driver = driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self._driver:
            raise NVMLError("NVML_ERROR_LIBRARY_NOT_FOUND")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> FakeGpu:
        return self.gpus[number]

    def nvmlDeviceGetMinorNumber(self, gpu: FakeGpu) -> int:
        return self.gpus.index(gpu)

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> tuple[int, int]:
        if not gpu.knows_mig:
            raise NVMLError("NVML_ERROR_NOT_SUPPORTED")
        return (1, 1) if gpu.slices is not None else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return len(gpu.slices or [])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, place: int) -> tuple[FakeGpu, int]:
        if (gpu.slices or [])[place] is None:
            raise NVMLError("NVML_ERROR_NOT_FOUND")
        return gpu, place

    def nvmlDeviceGetUUID(self, handle: FakeGpu | tuple[FakeGpu, int]) -> str | bytes:
        if isinstance(handle, tuple):
            return f"MIG-{handle[0].uuid}-{handle[1]}"
        return f"GPU-{handle.uuid}".encode()

    def nvmlDeviceGetName(self, handle: tuple[FakeGpu, int]) -> str:
        return f"NVIDIA A100-SXM4-80GB MIG {(handle[0].slices or [])[handle[1]]}"
