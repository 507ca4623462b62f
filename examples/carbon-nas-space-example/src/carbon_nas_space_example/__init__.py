"""A search space for carbon-nas: copy it, and put your networks in the place of these.

A chain of 3x3 convolutions in the manner of VGG (Simonyan and Zisserman, ICLR 2015), each followed by a halving of the
map. How many channels each has is searched, and is the text form: `16-32-64`. Nothing here needs torch but `build`:
the daemon, which proposes architectures and keeps its books, never loads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn

WIDTHS = ("8", "16", "32", "64")


@dataclass(frozen=True)
class ChainOptions:
    """The keys of `[space.chain]`. What cannot be is refused here, when the configuration is read."""

    layers: int = 3

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")


class ChainSpace:
    """All chains of `layers` convolutions; 4^layers of them."""

    Options: ClassVar[type] = ChainOptions

    def __init__(self, options: ChainOptions) -> None:
        self._options = options

    @property
    def choices(self) -> tuple[int, ...]:
        """How many options each decision has. Their number is fixed, and controllers learn over them."""
        return (len(WIDTHS),) * self._options.layers

    def sample(self, rng: Random) -> str:
        """Draw one. All that is random comes from `rng`, so that a search can be repeated."""
        return self.decode([rng.randrange(count) for count in self.choices])

    def neighbours(self, arch: str, rng: Random) -> list[str]:
        """Give all that differ in one decision."""
        here = self.encode(arch)
        near = [
            self.decode((*here[:place], other, *here[place + 1 :]))
            for place, count in enumerate(self.choices)
            for other in range(count)
            if other != here[place]
        ]
        rng.shuffle(near)
        return near

    def encode(self, arch: str) -> tuple[int, ...]:
        """Read the text form, strictly: it is the name of the architecture in the books."""
        widths = arch.split("-")
        if len(widths) != self._options.layers or not set(widths) <= set(WIDTHS):
            raise ValueError(
                f"{arch!r} is no chain; it reads {self._options.layers} of {', '.join(WIDTHS)}, joined by -"
            )
        return tuple(WIDTHS.index(width) for width in widths)

    def decode(self, choices: Sequence[int]) -> str:
        """Undo `encode`."""
        if len(choices) != self._options.layers or not set(choices) <= set(range(len(WIDTHS))):
            raise ValueError(f"a chain is {self._options.layers} numbers below {len(WIDTHS)}, got {choices}")
        return "-".join(WIDTHS[choice] for choice in choices)

    def canonical(self, arch: str) -> str:
        """No two chains are the same network, so each stands for itself; but it must be one."""
        return self.decode(self.encode(arch))

    def build(self, arch: str, channels: int, classes: int) -> "nn.Module":
        """Make the network, its weights drawn from torch's global generator."""
        from carbon_nas_space_example.network import Chain  # noqa: PLC0415 -- needs torch

        self.encode(arch)
        return Chain([int(width) for width in arch.split("-")], channels, classes)
