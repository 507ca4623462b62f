"""Meters: the energy counters of NVIDIA GPUs, and a stated model of the CPU.

NVML's `nvmlDeviceGetTotalEnergyConsumption` counts millijoules of the whole board since the driver was loaded
(Volta and newer); `nvmlDeviceGetPowerUsage` gives milliwatts (NVML API reference, section Device Queries).
"""

import math
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbon_nas.clock import monotonic
from carbon_nas.errors import ExecutorError
from carbon_nas.model import EnergyMethod, EnergyReading

PLAUSIBLE_OVERLOAD = 1.5
"""A board never draws more than this times its power limit; a counter that says so has glitched."""


class NvmlMeter:
    """One GPU, by its UUID. `nvml` is the `pynvml` module, initialised, or a fake with its functions.

    The counter is differenced here, so that a counter that resets, runs backward or jumps costs no joule: that
    step is taken from the power reading instead, and says so.
    """

    def __init__(self, uuid: str, nvml: Any, now: Callable[[], float] = monotonic) -> None:
        self.device = f"gpu/{uuid}"
        self._uuid = uuid
        self._nvml = nvml
        self._now = now
        self._joules = 0.0
        self._counter: float | None = None
        self._at: float | None = None

    def read(self) -> EnergyReading:
        """Give the joules since the driver was loaded, or without a counter since the first reading.

        Raises:
            ExecutorError: NVML does not answer for this GPU.
        """
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
            counter = self._read_counter(handle)
            step, method = self._step(handle, counter)
        except self._nvml.NVMLError as error:
            raise ExecutorError(f"GPU {self._uuid} cannot be read: {error}") from error
        self._joules += step
        self._counter, self._at = counter, self._now()
        return EnergyReading(self._joules, method)

    def _read_counter(self, handle: Any) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
        except self._nvml.NVMLError as error:
            if self._is_unsupported(error):
                return None
            raise

    def _step(self, handle: Any, counter: float | None) -> tuple[float, EnergyMethod]:
        if self._at is None:
            return (0.0, EnergyMethod.POWER) if counter is None else (counter, EnergyMethod.COUNTER)
        seconds = self._now() - self._at
        if counter is not None and self._counter is not None:
            step = counter - self._counter
            # One second of grace: the counter is brought up to date at its own pace.
            if 0 <= step <= PLAUSIBLE_OVERLOAD * self._limit_watts(handle) * (seconds + 1):
                return step, EnergyMethod.COUNTER
        return float(self._nvml.nvmlDeviceGetPowerUsage(handle)) / 1000 * seconds, EnergyMethod.POWER

    def _limit_watts(self, handle: Any) -> float:
        """Give the board's power limit; boundless where the board does not tell it, as laptops' do not."""
        try:
            return float(self._nvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
        except self._nvml.NVMLError as error:
            if self._is_unsupported(error):
                return math.inf
            raise

    def _is_unsupported(self, error: Exception) -> bool:
        return bool(getattr(error, "value", None) == self._nvml.NVML_ERROR_NOT_SUPPORTED)


@dataclass(frozen=True, slots=True)
class CpuModel:
    """Stated watts x busy core-seconds: what there is without a counter per process."""

    watts_per_core: float

    def joules(self, cpu_seconds: float) -> float:
        """Give the energy of `cpu_seconds` of one busy core."""
        return self.watts_per_core * cpu_seconds


def own_cpu_seconds() -> float:
    """Give the CPU seconds of this process, its children not included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def machine_cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Give the processor's name as the kernel tells it, or `CPU`."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
