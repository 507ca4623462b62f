"""The data sets: whole on the device as bytes, so that an epoch's order and augmentation are all there is to it.

The validation images are the last fifth of each class of the *training* split; the test split is never read.
The order of an epoch depends on (seed, epoch) alone, an augmentation on (seed, epoch, step): a training's
position in its data is two numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from carbon_nas.errors import JobError
from carbon_nas.evaluate.randomness import generator
from carbon_nas.evaluate.settings import TaskSettings, require_data

VALIDATION_SHARE = 5  # one in five


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images, uint8 [N, planes, H, W], and labels, int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Task:
    """A classification task. `mean` and `deviation`, [planes, 1, 1], are those of the training images / 255."""

    train: ImageSet
    validation: ImageSet
    classes: int
    mean: Tensor
    deviation: Tensor

    @property
    def planes(self) -> int:
        """How many planes an image has: 1 if grey, 3 if coloured."""
        return self.train.images.shape[1]

    @property
    def side(self) -> int:
        """Height and width of an image."""
        return self.train.images.shape[2]

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 [B, planes, H, W] to float32 of about zero mean and unit deviation."""
        return (images.to(torch.float32) / 255 - self.mean) / self.deviation


def load_task(settings: TaskSettings, device: torch.device) -> Task:
    """Read a data set, whole, onto `device`.

    Raises:
        ConfigurationError: its folder is missing.
        JobError: its files are missing or damaged, or nothing can be learnt from them.
    """
    require_data(settings)
    try:
        images, labels = LOADERS[settings.dataset](settings.data_dir or Path())
        held_out = last_of_each_class(labels)
        kept = images[~held_out].to(torch.float64) / 255
        _require_use(kept, held_out)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise JobError(f"data set {settings.dataset} in {settings.data_dir}: {error}") from error
    return Task(
        train=ImageSet(images[~held_out].to(device), labels[~held_out].to(device)),
        validation=ImageSet(images[held_out].to(device), labels[held_out].to(device)),
        classes=int(labels.max()) + 1,
        mean=kept.mean((0, 2, 3))[:, None, None].float().to(device),
        deviation=kept.std((0, 2, 3))[:, None, None].float().to(device),
    )


def _require_use(kept: Tensor, held_out: Tensor) -> None:
    """Check that there is something to validate on, and that each plane of `kept` [N, planes, H, W] can be normalised.

    Raises:
        ValueError: there is not, or one cannot.
    """
    if not held_out.any():
        raise ValueError(
            f"no class has {VALIDATION_SHARE} images, and of fewer none is held out to validate on; add images"
        )
    for number, plane in enumerate(kept.unbind(1), 1):
        if plane.min() == plane.max():
            raise ValueError(
                f"plane {number} of {kept.shape[1]} is {255 * plane.min():g} in every pixel of the training images,"
                " so that it tells nothing and has no deviation to be normalised by; leave it out or mend it"
            )


def last_of_each_class(labels: Tensor) -> Tensor:
    """Mark, bool [N], the last fifth of each class in the order of the file."""
    marks = torch.zeros_like(labels, dtype=torch.bool)
    for label in range(int(labels.max()) + 1):
        places = (labels == label).nonzero().flatten()
        marks[places[len(places) - len(places) // VALIDATION_SHARE :]] = True
    return marks


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Give the order, int64 [count], in which an epoch takes the images."""
    return torch.randperm(count, generator=generator(seed, "order", epoch))


def alternating_flips(count: int, seed: int, epoch: int) -> Tensor:
    """Say, int64 [count] of 0 and 1, which images an epoch flips: half of them, and those not flipped the epoch before.

    So two epochs show each image both ways round, which chance does for half of them (arXiv 2404.00498).
    """
    return (torch.randint(0, 2, (count,), generator=generator(seed, "flip")) + epoch) % 2


def augment(images: Tensor, seed: int, epoch: int, step: int, flip: Tensor | None = None) -> Tensor:
    """Flip half of the images, uint8 [B, planes, H, W], and shift each by up to an eighth of its side.

    Which are flipped is chance, or said by `flip`, int64 [B] of 0 and 1. What a shift uncovers is black. This is the
    augmentation of NAS-Bench-201: at 32x32, 4 pixels.
    """
    count, planes, side = images.shape[0], images.shape[1], images.shape[2]
    margin = side // 8
    draws = generator(seed, "augment", epoch, step)
    shift = torch.randint(0, 2 * margin + 1, (count, 2), generator=draws).to(images.device)
    if flip is None:
        flip = torch.randint(0, 2, (count,), generator=draws).to(images.device)
    line = torch.arange(side, device=images.device)
    rows = shift[:, :1] + line
    columns = shift[:, 1:] + torch.where(flip[:, None] == 1, line.flip(0), line)
    padded = F.pad(images, (margin,) * 4)
    which = torch.arange(count, device=images.device)[:, None, None, None]
    plane = torch.arange(planes, device=images.device)[None, :, None, None]
    return padded[which, plane, rows[:, None, :, None], columns[:, None, None, :]]


def _fashion16(_: Path) -> tuple[Tensor, Tensor]:
    with (files("carbon_nas") / "data" / "fashion16.npz").open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()


def _fashion_mnist(folder: Path) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415 -- slow to import, and rarely needed

    found = FashionMNIST(folder, train=True, download=False)
    return found.data[:, None], found.targets.long()


def _cifar(name: str) -> Callable[[Path], tuple[Tensor, Tensor]]:
    def load(folder: Path) -> tuple[Tensor, Tensor]:
        from torchvision import datasets  # noqa: PLC0415 -- slow to import, and rarely needed

        found = getattr(datasets, name)(folder, train=True, download=False)
        return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)

    return load


def _image_folder(folder: Path) -> tuple[Tensor, Tensor]:
    from torchvision.datasets import ImageFolder  # noqa: PLC0415 -- slow to import, and rarely needed

    found = ImageFolder(folder / "train")
    images: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    for path, _ in found.samples:
        images.append(np.asarray(found.loader(path)))
        height, width, _ = images[-1].shape
        if height != width or images[-1].shape != images[0].shape:
            raise ValueError(
                f"{path} is {width}x{height}; all must be square and as large as the first, {found.samples[0][0]}"
            )
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


LOADERS: Mapping[str, Callable[[Path], tuple[Tensor, Tensor]]] = {
    "fashion16": _fashion16,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "image-folder": _image_folder,
}
"""How each data set of `settings.DATA_SETS` is read: its training split, uint8 [N, planes, H, W] and int64 [N]."""
