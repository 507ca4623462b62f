"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326), by its official text form.

A cell has four nodes; each of its six edges carries one of five operations, so there are 5^6 = 15,625 cells:
`|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|` lists, for the nodes 1, 2
and 3, the operation on each incoming edge and the node it comes from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # the daemon never imports torch
    from torch import nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
"""The edges (target, source), in the order of the text form."""

_OPERATION = "|".join(OPERATIONS)
_NODES = (range(1), range(2), range(3))
_TEXT = re.compile(
    r"\+".join(r"\|" + "".join(rf"({_OPERATION})~{source}\|" for source in sources) for sources in _NODES)
)


@dataclass(frozen=True)
class NasBench201Options:
    """The size of the networks: `channels` of the first of three stages, `cells` in each stage.

    The benchmark's own networks have 16 channels and 5 cells.
    """

    channels: int = 16
    cells: int = 5

    def __post_init__(self) -> None:
        for name, value in (("channels", self.channels), ("cells", self.cells)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")


class NasBench201:
    """All 15,625 cells, each as a network of three stages; see `interfaces.SearchSpace`."""

    Options: ClassVar[type] = NasBench201Options
    side_multiple: ClassVar[int] = 4  # two of its stages halve, on both ways of a sum; see `search.sides`

    def __init__(self, options: NasBench201Options) -> None:
        self._options = options

    @property
    def choices(self) -> tuple[int, ...]:
        """Five operations on each of six edges."""
        return (len(OPERATIONS),) * len(EDGES)

    def sample(self, rng: Random) -> str:
        """Draw a cell, all equally likely."""
        return self.decode([rng.randrange(options) for options in self.choices])

    def neighbours(self, arch: str, rng: Random) -> list[str]:
        """Give the 24 cells that differ on one edge, in an order drawn from `rng`."""
        cell = self.encode(arch)
        near = [
            self.decode((*cell[:edge], operation, *cell[edge + 1 :]))
            for edge, options in enumerate(self.choices)
            for operation in range(options)
            if operation != cell[edge]
        ]
        rng.shuffle(near)
        return near

    def encode(self, arch: str) -> tuple[int, ...]:
        """Give the operation on each edge, as its place in `OPERATIONS`.

        Raises:
            ValueError: `arch` is not the text form of a cell.
        """
        found = _TEXT.fullmatch(arch)
        if found is None:
            raise ValueError(
                f"{arch!r} is no cell of nasbench201; a cell reads |OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2|,"
                f" each OP one of {', '.join(OPERATIONS)}"
            )
        return tuple(OPERATIONS.index(operation) for operation in found.groups())

    def canonical(self, arch: str) -> str:
        """Give the plainest of the cells that compute the same when untrained; see `_function`."""
        return self.decode(_plainest()[_function(self.encode(arch))])

    def decode(self, choices: Sequence[int]) -> str:
        """Give the text form of the cell that has operation `choices[i]` on edge i.

        Raises:
            ValueError: not six numbers from 0 to 4.
        """
        if len(choices) != len(EDGES) or not all(0 <= choice < len(OPERATIONS) for choice in choices):
            raise ValueError(f"a cell is {len(EDGES)} numbers from 0 to {len(OPERATIONS) - 1}, got {choices}")
        edges = [
            f"{OPERATIONS[choice]}~{source}|" for choice, (_, source) in zip(choices, EDGES, strict=True)
        ]
        return "+".join(("|" + edges[0], "|" + "".join(edges[1:3]), "|" + "".join(edges[3:])))

    def build(self, arch: str, channels: int, classes: int) -> "nn.Module":
        """Make the cell's network for images of `channels` planes, with sides divisible by four.

        Raises:
            ValueError: `arch` is not of this space.
        """
        from carbon_nas.search.spaces.nasbench201.network import Network  # noqa: PLC0415 -- needs torch

        operations = [OPERATIONS[choice] for choice in self.encode(arch)]
        return Network(
            operations,
            planes=channels,
            classes=classes,
            channels=self._options.channels,
            cells=self._options.cells,
        )


@dataclass(frozen=True, order=True)
class _Term:
    """An operation on a sum of terms. `text` tells what it is, `edge` which one: two convolutions have two weights."""

    text: str
    edge: int
    inside: tuple["_Term", ...]


def _function(cell: Sequence[int]) -> str:
    """Write what a cell computes, equal for cells of equal function, whatever the nodes that it goes through.

    Nothing comes of an operation on nothing, and a skip connection hands its source on (appendix of the paper,
    whose 6,466 classes also take one convolution used twice for two).
    """
    nodes: list[tuple[_Term, ...]] = [(_Term("x", -1, ()),)]
    for target in (1, 2, 3):
        arriving: list[_Term] = []
        for edge, (operation, (to, source)) in enumerate(zip(cell, EDGES, strict=True)):
            name = OPERATIONS[operation]
            if to != target or name == "none" or not (inside := nodes[source]):
                continue
            text = f"{name}({'+'.join(term.text for term in inside)})"
            arriving += inside if name == "skip_connect" else [_Term(text, edge, inside)]
        nodes.append(tuple(sorted(arriving)))
    return _written(nodes[-1], {})


def _written(terms: Sequence[_Term], numbers: dict[int, int]) -> str:
    """Write a sum with its operations numbered by their first appearance, so that one used twice can be told."""
    written = []
    for term in terms:
        number = numbers.setdefault(term.edge, len(numbers))
        written.append(f"{term.text.partition('(')[0]}{number}({_written(term.inside, numbers)})")
    return "+".join(written)


@cache
def _plainest() -> Mapping[str, tuple[int, ...]]:
    """Give for each function the cell that computes it with the fewest operations, then the first in order."""
    found: dict[str, tuple[int, ...]] = {}
    for cell in sorted(
        product(range(len(OPERATIONS)), repeat=len(EDGES)), key=lambda cell: (-cell.count(0), cell)
    ):
        found.setdefault(_function(cell), cell)
    return found
