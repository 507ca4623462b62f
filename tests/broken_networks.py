"""A distribution with a space `broken`, of whose networks each fails in its own way: by the first digit."""

import sys
from pathlib import Path

import pytest
from torch import Tensor, nn

from carbon_nas.testing.spaces import DigitSpace

REST = "-0-0-0-0-0"


class Network(nn.Module):
    def __init__(self, kind: int, channels: int, classes: int) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(channels, classes + (kind == 3))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.kind == 1 or (self.kind == 4 and len(images) > 1):
            raise KeyError("nowhere\nto be found")
        logits: Tensor = self.linear(images.mean((2, 3)))
        return (logits, logits) if self.kind == 2 else logits


class Broken(DigitSpace):
    """0: is not built. 1: fails on images. 2: gives a tuple. 3: one class too many. 4: fails on more than one.

    5, if its option `choices` allows it, does nothing wrong.
    """

    def build(self, arch: str, channels: int, classes: int) -> nn.Module:
        kind = self.encode(arch)[0]
        if kind == 0:
            raise RuntimeError("no such layer")
        return Network(kind, channels, classes)


def install_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the distribution's metadata on the path."""
    info = folder / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[carbon_nas.spaces]\nbroken = broken_networks:Broken\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
