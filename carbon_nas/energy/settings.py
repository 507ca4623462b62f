"""The `[energy]` section of the configuration."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EnergySettings:
    """How energy is counted where no counter tells it.

    `watts_per_core` is the stated model of a busy CPU core, power supply losses included: 12 W is a server of
    2 x 28 cores at 2 x 270 W TDP with memory, divided by its cores, rounded up. `pue` multiplies every joule
    (power usage effectiveness, ISO/IEC 30134-2): 1.0 counts the machine alone. `sample_seconds` is how often
    running work is read and booked.
    """

    watts_per_core: float = 12.0
    pue: float = 1.0
    sample_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if not self.watts_per_core > 0:
            raise ValueError("watts_per_core must be above zero: energy that nobody counts is not zero")
        if not self.pue >= 1:
            raise ValueError("pue cannot be below 1.0")
        if not self.sample_seconds > 0:
            raise ValueError("sample_seconds must be above zero")
