"""The networks of the space: ordinary PyTorch modules, images [B, planes, H, W] to logits [B, classes]."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Chain(nn.Module):
    """Convolution, batch normalisation, ReLU, halving, as often as there are widths; a linear classifier."""

    def __init__(self, widths: Sequence[int], planes: int, classes: int) -> None:
        super().__init__()
        # Some of the cheap scores look from block to block; this name tells them which these are.
        self.blocks = nn.ModuleList(_layer(*sides) for sides in pairwise((planes, *widths)))
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits; of images of any side."""
        maps = images
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.classifier(maps.mean((2, 3)))
        return logits


def _layer(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
    )
