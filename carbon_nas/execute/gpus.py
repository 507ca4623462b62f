"""The GPUs of this machine, as NVML shows them. No torch, no CUDA context: the daemon only looks."""

from dataclasses import dataclass
from typing import Any

import pynvml


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU by its UUID, which stays the same when indices change."""

    uuid: str
    name: str


def list_gpus(nvml: Any = pynvml) -> list[Gpu]:
    """Give all GPUs; none where there is no NVIDIA driver."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    return [Gpu(_text(nvml.nvmlDeviceGetUUID(h)), _text(nvml.nvmlDeviceGetName(h))) for h in handles]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
