import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import cifar

from carbon_nas.errors import ConfigurationError, JobError
from carbon_nas.evaluate.data import augment, epoch_order, last_of_each_class, load_task
from carbon_nas.evaluate.settings import TaskSettings

CPU = torch.device("cpu")
SHIPPED = Path(__file__).parents[1] / "carbon_nas" / "data" / "fashion16.npz"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def fashion16():
    return load_task(TaskSettings(), CPU)


def test_fashion16_is_balanced_and_split(fashion16):
    assert fashion16.train.images.shape == (4000, 1, 16, 16)
    assert fashion16.validation.images.shape == (1000, 1, 16, 16)
    assert fashion16.train.labels.bincount().tolist() == [400] * 10
    assert fashion16.validation.labels.bincount().tolist() == [100] * 10
    assert (fashion16.classes, fashion16.planes, fashion16.side) == (10, 1, 16)
    assert SHIPPED.stat().st_size < 1_000_000


def test_no_validation_image_is_trained_on(fashion16):
    train = {bytes(image.numpy()) for image in fashion16.train.images}
    shared = sum(bytes(image.numpy()) in train for image in fashion16.validation.images)
    assert shared <= 2  # Fashion-MNIST itself holds a few twins


def test_images_are_normalised(fashion16):
    images = fashion16.normalise(fashion16.train.images)
    assert images.dtype is torch.float32
    assert images.mean().item() == pytest.approx(0, abs=1e-4)
    assert images.std().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion16_is_made_of_debians_package():
    import gzip

    labels = np.frombuffer(
        gzip.decompress((DEBIAN / "train-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8
    )
    raw = gzip.decompress((DEBIAN / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    images = np.frombuffer(raw, np.uint8).reshape(-1, 28, 28)
    chosen = sorted(place for label in range(10) for place in np.flatnonzero(labels == label)[:500])
    with np.load(SHIPPED) as shipped:
        assert np.array_equal(shipped["labels"], labels[chosen])
        for place in range(0, 5000, 97):  # by brute force: blow up 16-fold, take means of 28x28 blocks
            large = images[chosen[place]].repeat(16, 0).repeat(16, 1).astype(float)
            small = large.reshape(16, 28, 16, 28).mean((1, 3))
            assert np.abs(shipped["images"][place] - small).max() <= 0.5 + 1e-9


def test_the_validation_images_are_the_last_fifth_of_each_class():
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 1, 1])
    assert last_of_each_class(labels).nonzero().flatten().tolist() == [6, 9]


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    first = epoch_order(100, seed=3, epoch=2)
    torch.manual_seed(2)
    assert torch.equal(first, epoch_order(100, seed=3, epoch=2))
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, epoch_order(100, seed=3, epoch=1))
    assert not torch.equal(first, epoch_order(100, seed=4, epoch=2))


def test_an_augmented_image_is_a_shift_of_itself_or_of_its_mirror():
    images = torch.randint(1, 256, (24, 3, 16, 16), dtype=torch.uint8)
    changed = augment(images, seed=1, epoch=2, step=3)
    assert changed.shape == images.shape
    assert changed.dtype is torch.uint8
    kinds = set()
    for image, new in zip(images, changed, strict=True):
        found = [
            (flip, dy, dx)
            for flip in (False, True)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(new, shifted(image, flip, dy, dx))
        ]
        assert len(found) == 1
        kinds.update(found)
    assert len(kinds) > 10  # of the 50


def shifted(image, flip, dy, dx):
    """What `augment` may make of an image, by loops."""
    new = torch.zeros_like(image)
    for row in range(16):
        for column in range(16):
            y, x = row + dy, (15 - column if flip else column) + dx
            if 0 <= y < 16 and 0 <= x < 16:
                new[:, row, column] = image[:, y, x]
    return new


def test_augmentation_depends_on_its_counters_alone():
    images = torch.randint(1, 256, (32, 1, 16, 16), dtype=torch.uint8)
    first = augment(images, 1, 2, 3)
    torch.manual_seed(9)
    assert torch.equal(first, augment(images, 1, 2, 3))
    for counters in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        assert not torch.equal(first, augment(images, *counters))


def test_fashion_mnist_is_read_from_torchvisions_folder(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    labels = (np.arange(50) % 10).astype(np.uint8)
    for split in ("train", "t10k"):
        header = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = (2049).to_bytes(4, "big") + (50).to_bytes(4, "big")
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    task = load_task(TaskSettings(dataset="fashion-mnist", data_dir=tmp_path), CPU)
    assert torch.equal(task.train.images[:, 0], torch.from_numpy(images[:40]))
    assert task.validation.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("name", "classes", "batches"),
    [("cifar10", 10, [f"data_batch_{n}" for n in range(1, 6)]), ("cifar100", 100, ["train"])],
)
def test_cifar_is_read_from_torchvisions_folder(tmp_path, monkeypatch, name, classes, batches):
    """Files in the official layout; torchvision's check of the official MD5 sums is put aside."""
    folder = tmp_path / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[name]
    folder.mkdir()
    count = 10 * classes // len(batches)
    images = np.random.default_rng(0).integers(0, 256, (len(batches), count, 3072)).astype(np.uint8)
    labels = [n % classes for n in range(count)]
    for place, batch in enumerate(batches):
        content = {"data": images[place], "labels": labels, "fine_labels": labels}
        (folder / batch).write_bytes(pickle.dumps(content))
    for meta in ("batches.meta", "meta"):
        names = [f"class {n}" for n in range(classes)]
        (folder / meta).write_bytes(pickle.dumps({"label_names": names, "fine_label_names": names}))
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
    task = load_task(TaskSettings(dataset=name, data_dir=tmp_path), CPU)
    assert (task.classes, task.planes, task.side) == (classes, 3, 32)
    assert len(task.train) == 8 * classes
    assert len(task.validation) == 2 * classes
    assert torch.equal(task.train.images[0], torch.from_numpy(images[0, 0].reshape(3, 32, 32)))


def picture(path, side=(8, 8), shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", side, (shade, shade, shade)).save(path)


def test_pictures_are_read_from_a_folder_for_each_class(tmp_path):
    for shade, name in enumerate(("cat", "dog")):
        for number in range(10):
            picture(tmp_path / "train" / name / f"{number}.png", shade=100 * shade + number)
    task = load_task(TaskSettings(dataset="image-folder", data_dir=tmp_path), CPU)
    assert (task.classes, task.planes, task.side) == (2, 3, 8)
    assert task.train.images[:, 0, 0, 0].tolist() == [*range(8), *range(100, 108)]
    assert task.validation.labels.tolist() == [0, 0, 1, 1]


def test_pictures_of_another_size_are_refused_by_name(tmp_path):
    picture(tmp_path / "train" / "cat" / "0.png")
    picture(tmp_path / "train" / "cat" / "1.png", side=(8, 6))
    with pytest.raises(JobError, match=r"1\.png is 8x6; all must be square"):
        load_task(TaskSettings(dataset="image-folder", data_dir=tmp_path), CPU)


def test_a_folder_with_nothing_to_validate_on_is_refused(tmp_path):
    for number in range(4):
        for name in ("cat", "dog"):
            picture(tmp_path / "train" / name / f"{number}.png", shade=number)
    settings = TaskSettings(dataset="image-folder", data_dir=tmp_path)
    with pytest.raises(JobError, match=rf"image-folder in {tmp_path}: no class has 5 images.*add images"):
        load_task(settings, CPU)
    picture(tmp_path / "train" / "cat" / "4.png", shade=4)
    assert len(load_task(settings, CPU).validation) == 1


def test_a_plane_of_one_value_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        pixels[:, :, 1] = 7
        (tmp_path / "train" / "cat").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "train" / "cat" / f"{number}.png")
    with pytest.raises(JobError, match=rf"image-folder in {tmp_path}: plane 2 of 3 is 7 in every pixel"):
        load_task(TaskSettings(dataset="image-folder", data_dir=tmp_path), CPU)


def test_missing_and_damaged_data_say_so(tmp_path):
    settings = TaskSettings(dataset="cifar10", data_dir=tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"cifar-10-batches-py: put the unpacked files of cifar10 there"
    ):
        load_task(settings, CPU)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(JobError, match="data set cifar10 in"):
        load_task(settings, CPU)
