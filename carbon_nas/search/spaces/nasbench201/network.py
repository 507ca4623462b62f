"""The networks of NAS-Bench-201 (section 2 and figure 1 of arXiv 2001.00326).

Stem, three stages of equal cells at C, 2C and 4C channels with a residual block of stride 2 between them, batch
normalisation and ReLU, mean over the image, a linear classifier. With C = 16, five cells a stage, three planes
and ten classes a cell with n3 convolutions 3x3 and n1 of 1x1 has 73,306 + 243,040 n3 + 28,000 n1 parameters.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from carbon_nas.search.spaces.nasbench201 import EDGES

NODES = 4


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Make ReLU, convolution without bias, batch normalisation: [B, inputs, H, W] -> [B, outputs, H/s, W/s]."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def average_pool() -> nn.Module:
    """Mean of the 3x3 neighbourhood, the border's padding not counted."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


MAKERS: Mapping[str, Callable[[int], nn.Module | None]] = {
    "none": lambda _: None,
    "skip_connect": lambda _: nn.Identity(),
    "nor_conv_1x1": lambda channels: convolution(channels, channels, 1),
    "nor_conv_3x3": lambda channels: convolution(channels, channels, 3),
    "avg_pool_3x3": lambda _: average_pool(),
}
"""How each operation is made, by its official name; no module where nothing flows."""


class Cell(nn.Module):
    """One cell: node 0 is the input [B, C, H, W], each later node the sum over its edges, node 3 the output."""

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for operation, (target, source) in zip(operations, EDGES, strict=True):
            module = MAKERS[operation](channels)
            if module is not None:
                self.edges[f"{source}->{target}"] = module

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape; a node that nothing reaches is zero."""
        nodes = [images]
        for target in range(1, NODES):
            incoming = [
                self.edges[edge](nodes[source])
                for source in range(target)
                if (edge := f"{source}->{target}") in self.edges
            ]
            nodes.append(_sum(incoming) if incoming else torch.zeros_like(images))
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between stages: [B, C, H, W] -> [B, 2C, H/2, W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            convolution(channels, 2 * channels, 3, stride=2), convolution(2 * channels, 2 * channels, 3)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(channels, 2 * channels, 1, bias=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Halve the sides, which must be even, and double the channels."""
        shortcut: Tensor = self.shortcut(images)
        main: Tensor = self.main(images)
        return shortcut + main


class Network(nn.Module):
    """A whole network: images [B, planes, H, W], H and W divisible by four, to logits [B, classes]."""

    def __init__(
        self, operations: Sequence[str], planes: int, classes: int, channels: int, cells: int
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for width in (channels, 2 * channels, 4 * channels):
            stages += [Reduction(width // 2)] if stages else []
            stages += [Cell(operations, width) for _ in range(cells)]
        self.features = nn.Sequential(
            nn.Conv2d(planes, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            *stages,
            nn.BatchNorm2d(4 * channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(4 * channels, classes)

    @property
    def blocks(self) -> list[nn.Module]:
        """What AZ-NAS calls primary blocks: the stem, the cells and the reductions."""
        return list(self.features)[1:-4]

    def forward(self, images: Tensor) -> Tensor:
        """Give logits [B, classes]."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total
