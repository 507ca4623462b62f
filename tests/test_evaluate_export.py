"""Trained weights as files: what is taken from a training's folder, and what comes out of it again."""

import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate import checkpoint, export, protocol
from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.export import ExportError
from carbon_nas.evaluate.randomness import seed_everything
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings
from carbon_nas.evaluate.train import Training, run
from carbon_nas.model import JobKind, JobSpec
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=2, cells=1))
ARCH = SPACE.decode((3, 1, 2, 4, 2, 0))
SETTINGS = {"epochs": 1, "batch_size": 500}
SHAPE = (1, 16, 16)

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in export.ONNX_NEEDS), reason="the extra `export` is not installed"
)


class SavingHost:
    """Keeps a checkpoint at each step, as a runner does that is asked for one all the time."""

    def __init__(self, folder):
        self.folder = folder

    def should_stop(self):
        return False

    def save_due(self):
        return True

    def save(self, training):
        checkpoint.save(self.folder, {**training.state_dict(), "spec_hash": "s", "attempt": 1})

    def report(self, training):
        pass


@pytest.fixture(scope="module")
def task():
    return load_task(TaskSettings(), torch.device("cpu"))


def train(folder, task, **settings):
    """Train in the folder of a job; give the accuracy it ended with."""
    spec = JobSpec(
        "job",
        JobKind.TRAIN,
        1,
        (ARCH,),
        "nasbench201",
        folder,
        seed=7,
        train=settings,
        space_options={"channels": 2, "cells": 1},
    )
    protocol.write_spec(spec)
    seed_everything(1)
    training = Training(SPACE.build(ARCH, 1, 10), task, TrainSettings(**settings), seed=5)
    assert run(training, SavingHost(folder / "checkpoints"))
    return training.curve[-1]["accuracy"]


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """The folder of a job that has trained, and the accuracy it ended with."""
    folder = tmp_path_factory.mktemp("job")
    return folder, train(folder, task, **SETTINGS)


@pytest.fixture
def job(trained, tmp_path):
    """A copy of it that a test may damage."""
    folder = tmp_path / "job"
    for path in trained[0].rglob("*"):
        if path.is_file():
            (folder / path.relative_to(trained[0])).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(trained[0])).write_bytes(path.read_bytes())
    return folder


def accuracy_of(logits, task):
    return int((logits.argmax(1) == task.validation.labels).sum()) / len(task.validation)


def written(model, folder):
    files = {
        "model.pt": export.weights(model.network),
        "architecture.json": json.dumps(export.describe(model)).encode(),
    }
    export.write(folder, files)


def test_weights_and_description_alone_give_the_evaluated_network(trained, task, tmp_path):
    written(export.restore(trained[0], accuracy=trained[1]), tmp_path)
    about = json.loads((tmp_path / "architecture.json").read_bytes())
    assert about["space"] == {"name": "nasbench201", "options": {"channels": 2, "cells": 1}}
    space = NasBench201(NasBench201Options(**about["space"]["options"]))
    planes, side = about["input"]["shape"][1:3]
    assert (planes, side, about["classes"]) == (1, 16, 10)
    network = space.build(about["architecture"], planes, about["classes"])
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    pixels = task.validation.images.to(torch.float32)
    mean, deviation = torch.tensor(about["input"]["mean"]), torch.tensor(about["input"]["deviation"])
    with torch.no_grad():
        logits = network.eval()((pixels / 255 - mean) / deviation)
        assert accuracy_of(logits, task) == trained[1]
        again, described = export.load(tmp_path)
        assert torch.equal(again(task.normalise(task.validation.images)), logits)
    assert described == about


def test_a_training_that_was_judged_by_an_average_exports_the_average(task, tmp_path):
    accuracy = train(tmp_path, task, **SETTINGS, ema_decay=0.9)
    _, state = checkpoint.read(checkpoint.manifests(tmp_path / "checkpoints")[0])
    network = export.restore(tmp_path, accuracy=accuracy).network
    assert not torch.equal(network.classifier.weight, state["network"]["classifier.weight"])
    with torch.no_grad():
        assert accuracy_of(network(task.normalise(task.validation.images)), task) == accuracy


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder, newest: (folder / "attempt").unlink(), "no folder of a job"),
        (lambda folder, newest: newest.unlink(), "no checkpoint of the training's end in"),
        (lambda folder, newest: newest.with_suffix(".pt").write_bytes(b"torn"), "is damaged"),
    ],
)
def test_weights_that_are_gone_or_not_the_last_are_never_exported(job, trained, damage, said):
    damage(job, checkpoint.manifests(job / "checkpoints")[0])
    with pytest.raises(ExportError, match=said):
        export.restore(job, accuracy=trained[1])


def test_weights_of_another_accuracy_are_not_the_training_s(job, trained):
    with pytest.raises(ExportError, match=r"had accuracy 0\.\d+, the training 0\.5"):
        export.restore(job, accuracy=0.5)


def test_a_data_set_that_is_not_where_it_was_is_named(job, trained, tmp_path):
    spec = json.loads((job / "spec-1.json").read_bytes())
    spec["task"] = {"dataset": "cifar10", "data_dir": "/moved"}
    (job / "spec-1.json").write_text(json.dumps(spec))
    with pytest.raises(ConfigurationError, match=r"no folder /moved/cifar-10-batches-py"):
        export.restore(job, accuracy=trained[1])
    with pytest.raises(ConfigurationError, match=rf"no folder {tmp_path}/cifar-10-batches-py"):
        export.restore(job, accuracy=trained[1], data_dir=tmp_path)


@pytest.fixture(scope="module")
def translated(trained):
    model = export.restore(trained[0], accuracy=trained[1])
    return model.network, export.to_onnx(model.network, SHAPE)


@needs_onnx
def test_onnx_computes_the_same_for_any_batch(translated, task):
    import onnxruntime

    network, content = translated
    session = onnxruntime.InferenceSession(content)
    images = task.normalise(task.validation.images[:37])
    with torch.no_grad():
        wanted = network(images).numpy()
    (found,) = session.run(["logits"], {"images": images.numpy()})
    assert np.abs(found - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())


@needs_onnx
def test_onnx_says_nothing_of_the_machine_that_wrote_it(translated):
    assert b"site-packages" not in translated[1]
    assert b".py" not in translated[1]


@needs_onnx
@pytest.mark.parametrize("by", [1e-2, float("nan")])
def test_onnx_that_computes_something_else_fails_loudly(translated, trained, by):
    other = export.restore(trained[0], accuracy=trained[1]).network
    other.classifier.bias.data[3] += by
    with pytest.raises(ExportError, match="the ONNX network differs from PyTorch's by"):
        export.require_same(other, translated[1], SHAPE)
    export.require_same(translated[0], translated[1], SHAPE)


@needs_onnx
def test_what_cannot_be_onnx_is_said():
    class Branching(torch.nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    said = "the network cannot be translated to ONNX: Could not guard on data-dependent expression"
    with pytest.raises(ExportError, match=f"^{said}.*$"):  # in one line
        export.to_onnx(Branching(), SHAPE)


@needs_onnx
def test_onnx_that_cannot_be_run_on_any_batch_is_said():
    class OfTwo(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1).sum(1, keepdim=True) if len(images) != 2 else images.view(2, -1)

    with pytest.raises(
        ExportError, match=r"^onnxruntime cannot run the ONNX network on batches of 1, 2, 5: .*images.*$"
    ):
        export.to_onnx(OfTwo(), SHAPE)


def test_a_second_export_leaves_nothing_of_the_first(tmp_path):
    ours = {"architecture.json": json.dumps({"format": export.FORMAT}).encode(), "model.onnx": b"old"}
    export.write(tmp_path / "out", ours)
    export.require_free(tmp_path / "out")
    export.write(tmp_path / "out", {**ours, "model.onnx": b"new", "README.md": b"x"})
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"new"
    del ours["model.onnx"]
    export.write(tmp_path / "out", ours)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["architecture.json"]


@pytest.mark.parametrize(
    "found",
    [
        {"README.md": "mine"},
        {"architecture.json": "{}"},
        {"architecture.json": json.dumps({"format": export.FORMAT}), "notes.txt": "mine"},
    ],
)
def test_other_files_are_not_written_over(tmp_path, found):
    export.require_free(tmp_path)  # it is empty
    export.require_free(tmp_path / "new")
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ExportError, match="holds something else than an exported model"):
        export.require_free(tmp_path)
    with pytest.raises(ExportError, match="holds something else"):
        export.require_free(next(tmp_path.iterdir()))


def test_what_is_no_export_is_not_loaded(tmp_path):
    with pytest.raises(ExportError, match="no exported model in"):
        export.load(tmp_path)
    buffer = io.BytesIO()
    torch.save({}, buffer)
    export.write(tmp_path, {"architecture.json": b'{"format": "other"}', "model.pt": buffer.getvalue()})
    with pytest.raises(ExportError, match="of format 'other', not 'carbon-nas model 1'"):
        export.load(tmp_path)
