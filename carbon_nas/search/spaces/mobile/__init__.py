"""Stages of inverted residuals with squeeze-and-excitation, searched stage by stage and scaled as a whole.

Searched, as in MnasNet (Tan et al., CVPR 2019, arXiv 1807.11626): for each of seven stages the kernel of its
depthwise convolutions, their expansion, how many blocks, the width, and squeeze-and-excitation or none. Fixed, as in
EfficientNet-B0 (Tan and Le, ICML 2019, arXiv 1905.11946, table 1): stem, head, each stage's stride and its channels
at width 1. B0 itself, at side 224 and both multipliers at 1, reads

    k3e1d1w1.0se|k3e6d2w1.0se|k5e6d2w1.0se|k3e6d3w1.0se|k5e6d3w1.0se|k5e6d4w1.0se|k3e6d1w1.0se

and the same text with EfficientNet's multipliers is B1 to B7. There are 144 settings of a stage and 144^7 = 1.3e15
texts; at multipliers of 1 they are 5.7e14 networks, since widths 0.75 and 1.0 of the first two stages round to the
same channels.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:  # the daemon never imports torch
    from torch import nn

KERNELS = (3, 5)
EXPANSIONS = (1, 3, 6)
DEPTHS = (1, 2, 3, 4)
WIDTHS = (0.75, 1.0, 1.25)
SQUEEZES = (False, True)
STEM, CHANNELS, HEAD = 32, (16, 24, 40, 80, 112, 192, 320), 1280
"""Output channels of the stem, of each stage and of the head, at width 1."""
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
"""Of the stem and of each stage's first block, for large images."""
SMALLEST_MAP = 4
"""Sides of the last stage's maps are at least so many positions."""

_WRITTEN = (
    *(tuple(f"k{kernel}" for kernel in KERNELS), tuple(f"e{expansion}" for expansion in EXPANSIONS)),
    *(tuple(f"d{depth}" for depth in DEPTHS), tuple(f"w{width}" for width in WIDTHS), ("", "se")),
)
"""How each choice of a stage is written, in the order of `encode`."""
_STAGE = re.compile("".join(f"({'|'.join(map(re.escape, texts))})" for texts in _WRITTEN))


@dataclass(frozen=True)
class MobileOptions:
    """`side` of the images in pixels, which decides how often maps are halved; compound scaling's multipliers.

    EfficientNet's multipliers for (width, depth) go from (1.0, 1.0), B0, to (2.0, 3.1), B7.
    """

    side: int = 32
    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.side < 2 * SMALLEST_MAP:
            raise ValueError(f"side must be at least {2 * SMALLEST_MAP}, got {self.side}")
        for name in ("width_multiplier", "depth_multiplier"):
            if not 0 < getattr(self, name) <= 10:
                raise ValueError(f"{name} must be above 0 and at most 10, got {getattr(self, name)}")


class Stage(NamedTuple):
    """What a stage is built from: `channels` and `blocks` are scaled, `stride` is its first block's."""

    kernel: int
    expansion: int
    blocks: int
    channels: int
    squeeze: bool
    stride: int


class Mobile:
    """Seven stages of mobile inverted bottlenecks (MBConv), each with choices; see `interfaces.SearchSpace`."""

    Options: ClassVar[type] = MobileOptions

    def __init__(self, options: MobileOptions) -> None:
        self._options = options

    @property
    def side(self) -> int:
        """Height and width of the images that the networks are made for; see `search.sides`."""
        return self._options.side

    @property
    def choices(self) -> tuple[int, ...]:
        """Kernel, expansion, depth, width, squeeze-and-excitation: five decisions on each of seven stages."""
        return tuple(len(texts) for texts in _WRITTEN) * len(CHANNELS)

    def sample(self, rng: Random) -> str:
        """Draw each choice, all equally likely."""
        return self.decode([rng.randrange(options) for options in self.choices])

    def neighbours(self, arch: str, rng: Random) -> list[str]:
        """Give the 63 texts that differ in one choice, in an order drawn from `rng`."""
        here = self.encode(arch)
        near = [
            self.decode((*here[:place], other, *here[place + 1 :]))
            for place, options in enumerate(self.choices)
            for other in range(options)
            if other != here[place]
        ]
        rng.shuffle(near)
        return near

    def encode(self, arch: str) -> tuple[int, ...]:
        """Give the choices, stage by stage.

        Raises:
            ValueError: `arch` is not the text form of an architecture; the message says which stage is wrong.
        """
        stages = arch.split("|")
        if len(stages) != len(CHANNELS):
            raise ValueError(f"{arch!r} is not of mobile: it has {len(CHANNELS)} stages, joined by |")
        found: list[int] = []
        for number, stage in enumerate(stages, 1):
            parts = _STAGE.fullmatch(stage)
            if parts is None:
                form = " ".join("|".join(filter(None, texts)) for texts in _WRITTEN)
                raise ValueError(
                    f"{arch!r} is not of mobile: stage {number} is {stage!r}, a stage reads k3e6d2w1.0 or"
                    f" k3e6d2w1.0se, of {form}"
                )
            found += [texts.index(part) for texts, part in zip(_WRITTEN, parts.groups(), strict=True)]
        return tuple(found)

    def decode(self, choices: Sequence[int]) -> str:
        """Give the text form.

        Raises:
            ValueError: not 35 numbers, each from 0 to one less than its entry of `choices`.
        """
        sizes = self.choices
        if len(choices) != len(sizes) or not all(0 <= c < n for c, n in zip(choices, sizes, strict=True)):
            raise ValueError(f"of mobile are {len(sizes)} numbers below {sizes}, got {tuple(choices)}")
        return "|".join(
            "".join(texts[choice] for texts, choice in zip(_WRITTEN, stage, strict=True))
            for stage in _by_stage(choices)
        )

    def canonical(self, arch: str) -> str:
        """Give the one with the least widths and depths of all that are the same network after scaling."""
        plain: list[int] = []
        for base, (kernel, expansion, depth, width, squeeze) in zip(
            CHANNELS, _by_stage(self.encode(arch)), strict=True
        ):
            blocks = [self._blocks(option) for option in DEPTHS]
            channels = [self._channels(base * option) for option in WIDTHS]
            plain += [
                kernel,
                expansion,
                blocks.index(blocks[depth]),
                channels.index(channels[width]),
                squeeze,
            ]
        return self.decode(plain)

    def stages(self, arch: str) -> list[Stage]:
        """Give what the network's stages are built from.

        Raises:
            ValueError: `arch` is not of this space.
        """
        return [
            Stage(
                kernel=KERNELS[kernel],
                expansion=EXPANSIONS[expansion],
                blocks=self._blocks(DEPTHS[depth]),
                channels=self._channels(base * WIDTHS[width]),
                squeeze=SQUEEZES[squeeze],
                stride=stride,
            )
            for base, stride, (kernel, expansion, depth, width, squeeze) in zip(
                CHANNELS, strides(self._options.side)[1:], _by_stage(self.encode(arch)), strict=True
            )
        ]

    def build(self, arch: str, channels: int, classes: int) -> "nn.Module":
        """Make the network for images of `channels` planes; other sides than the option's only change its maps.

        Raises:
            ValueError: `arch` is not of this space.
        """
        from carbon_nas.search.spaces.mobile.network import Network  # noqa: PLC0415 -- needs torch

        return Network(
            self.stages(arch),
            planes=channels,
            classes=classes,
            stem=self._channels(STEM),
            stem_stride=strides(self._options.side)[0],
            head=self._channels(HEAD),
        )

    def _blocks(self, depth: int) -> int:
        return math.ceil(depth * self._options.depth_multiplier)

    def _channels(self, width: float) -> int:
        """Scale, and round to the nearest multiple of eight, never by more than a tenth down."""
        scaled = width * self._options.width_multiplier
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * scaled else rounded + 8


def strides(side: int) -> list[int]:
    """Give the strides of stem and stages for images of `side` >= 8: of small ones the first do not halve."""
    fitting = list(STRIDES)
    while -(-side // math.prod(fitting)) < SMALLEST_MAP:
        fitting[fitting.index(2)] = 1
    return fitting


def _by_stage(choices: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(choices), len(_WRITTEN)):
        yield choices[first : first + len(_WRITTEN)]
