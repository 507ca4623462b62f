"""Make the shipped data set `carbon_nas/data/fashion16.npz` from Debian's package `dataset-fashion-mnist`.

    apt install dataset-fashion-mnist        # or: apt download, then dpkg -x into a folder
    python bench/make_fashion16.py [/usr/share/datasets/fashion-mnist] [carbon_nas/data/fashion16.npz]

Takes the first 500 images of each class from the *training* split of Fashion-MNIST (Xiao, Rasul and Vollgraf,
arXiv 1708.07747; MIT licence), in the order of the file, and scales them from 28x28 to 16x16: each new pixel is
the mean of the area it covers. The test split stays untouched, so that nothing is ever chosen by it.
The file holds `images`, uint8 [5000, 16, 16], and `labels`, uint8 [5000]; made again it is the same to the byte.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PER_CLASS = 500
SIDE = 16


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes: magic 0x08 and rank, big-endian 32-bit sides, then the data."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def area_weights(old: int, new: int) -> NDArray[np.float64]:
    """Give [new, old]: which share of each old pixel's length lies in each new pixel, rows summing to one."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * new / old


def first_of_each_class(labels: NDArray[np.uint8], count: int) -> NDArray[np.intp]:
    """Give the places of the first `count` images of each class, in the order of the file."""
    places = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(places))


def main(
    source: str = "/usr/share/datasets/fashion-mnist", target: str = "carbon_nas/data/fashion16.npz"
) -> None:
    """Read `source`, write `target`."""
    labels = read_idx(Path(source) / "train-labels-idx1-ubyte.gz")
    chosen = first_of_each_class(labels, PER_CLASS)
    images = read_idx(Path(source) / "train-images-idx3-ubyte.gz")[chosen]
    weights = area_weights(images.shape[1], SIDE)
    small = np.rint(weights @ images @ weights.T).astype(np.uint8)
    np.savez_compressed(target, images=small, labels=labels[chosen])


if __name__ == "__main__":
    main(*sys.argv[1:])
