"""A trained network as files that can be used without the search that found it.

model.pt            its weights: a state dict, for `torch.load(..., weights_only=True)`
architecture.json   how the network is made, what it takes and gives, and what is known of it
model.onnx          the same network for other runtimes, compared with PyTorch's before it is written
README.md           the model card; see `report.card`
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from carbon_nas import plugins
from carbon_nas.errors import CarbonNasError, CheckpointError
from carbon_nas.evaluate import checkpoint, protocol
from carbon_nas.evaluate.data import Task, load_task
from carbon_nas.evaluate.jobs import build_space
from carbon_nas.evaluate.proxies.passes import in_mode
from carbon_nas.evaluate.randomness import generator
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings
from carbon_nas.model import JobSpec

FORMAT = "carbon-nas model 1"
FILES = ("model.pt", "architecture.json", "model.onnx", "README.md")
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")

TOLERANCE = 1e-4
"""How far a logit of the ONNX network may be from PyTorch's, as a share of the largest logit, or of 1 if none is
larger: both compute in float32, whose sums depend on their order by some 1e-6."""

CHECKED_BATCHES = (1, 2, 5)


class ExportError(CarbonNasError):
    """The model cannot be handed over: its weights are gone, or what was made of them is not the same network."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A network as its training left it, on the CPU and in evaluation mode, with its job and its task."""

    network: nn.Module
    spec: JobSpec
    task: Task
    torch_version: str  # that trained it

    @property
    def arch(self) -> str:
        """The architecture's text form."""
        return self.spec.archs[0]


def restore(folder: Path, *, accuracy: float | None, data_dir: Path | None = None) -> TrainedModel:
    """Take a network from the folder of its training's job; `data_dir` is where the data set lies by now.

    The data set is read for what its images are normalised by. `accuracy` is what the training ended with.

    Raises:
        ExportError: no undamaged checkpoint of the training's end is there, or it had another accuracy.
        ConfigurationError: the space or the data set is not here.
        JobError: the data set is damaged.
    """
    attempt = protocol.read_attempt(folder)
    if attempt is None:
        raise ExportError(f"no folder of a job at {folder}; the weights of its training are gone with it")
    spec = protocol.read_spec(folder / f"spec-{attempt}.json")
    settings: TrainSettings = plugins.check_options(TrainSettings, spec.train, key="train")
    state, torch_version = _final(folder / "checkpoints", spec.epochs or settings.epochs)
    if state["curve"][-1]["accuracy"] != accuracy:
        raise ExportError(
            f"the checkpoint in {folder} had accuracy {state['curve'][-1]['accuracy']}, the training {accuracy}"
        )
    where = {} if data_dir is None else {"data_dir": data_dir}
    task = load_task(
        plugins.check_options(TaskSettings, {**spec.task, **where}, key="task"), torch.device("cpu")
    )
    network = build_space(spec).build(spec.archs[0], task.planes, task.classes)
    network.load_state_dict(_validated(state))
    return TrainedModel(network.eval(), spec, task, torch_version)


def _final(folder: Path, epochs: int) -> tuple[dict[str, Any], str]:
    """Give the training's last state, and the version of torch that wrote it; those of before are not it."""
    damage = ""
    for path in checkpoint.manifests(folder):
        try:
            manifest, state = checkpoint.read(path)
        except CheckpointError as error:
            damage = f": {error}"
            continue
        if manifest.epoch == epochs:
            return state, manifest.torch_version
    raise ExportError(f"no checkpoint of the training's end in {folder}{damage}")


def _validated(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give the weights whose accuracy the training reports: their moving average, if it kept one."""
    average: Mapping[str, Tensor] | None = state.get("average")
    if average is None:
        return dict(state["network"])
    prefix = "module."  # of torch.optim.swa_utils.AveragedModel
    return {name.removeprefix(prefix): each for name, each in average.items() if name.startswith(prefix)}


def describe(model: TrainedModel) -> dict[str, Any]:
    """Say, in what JSON can hold, all that is needed to make and to feed the network; no code is in it."""
    spec, task = model.spec, model.task
    options = plugins.load("spaces", spec.space, key="space").Options
    dataset = plugins.check_options(TaskSettings, spec.task, key="task").dataset
    chosen = plugins.check_options(options, spec.space_options, key="space")
    return {
        "format": FORMAT,
        "architecture": model.arch,
        "space": {"name": spec.space, "options": TypeAdapter(options).dump_python(chosen, mode="json")},
        "input": {
            "shape": ["batch", task.planes, task.side, task.side],
            "type": "float32",
            "is": "(pixels / 255 - mean) / deviation, by plane",
            "mean": task.mean.flatten().tolist(),
            "deviation": task.deviation.flatten().tolist(),
        },
        "output": {"shape": ["batch", task.classes], "type": "float32", "is": "logits"},
        "classes": task.classes,
        "training": {
            "dataset": dataset,
            "images": len(task.train),
            "seed": spec.seed,
            "job": spec.job_id,
            **plugins.check_options(TrainSettings, spec.train, key="train").model_dump(
                mode="json", exclude={"checkpoint_seconds"}
            ),
        },
        "versions": {"carbon-nas": version("carbon-nas"), "torch": model.torch_version},
    }


def weights(network: nn.Module) -> bytes:
    """Give the state dict as `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()


def missing_for_onnx() -> list[str]:
    """Give the packages that `to_onnx` needs and that are not installed."""
    return [name for name in ONNX_NEEDS if find_spec(name) is None]


def to_onnx(network: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """Give the network as ONNX, `images` [batch, *shape] to `logits`, the batch of any size; see `require_same`.

    Raises:
        ExportError: packages for it are missing, PyTorch cannot translate it, or what came out computes something
            else.
    """
    missing = missing_for_onnx()
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed: pip install 'carbon-nas[export]'")
    example = torch.randn(2, *shape, generator=generator("onnx", "example"))
    try:
        with in_mode(network, training=False):
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"the network cannot be translated to ONNX: {_origin(error)}") from error
    assert program is not None  # noqa: S101 -- for the type checker: it is, unless torchscript translates
    proto = program.model_proto
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]  # where in whose files each operation was written
    content: bytes = proto.SerializeToString()
    require_same(network, content, shape)
    return content


def require_same(network: nn.Module, content: bytes, shape: tuple[int, int, int]) -> None:
    """Compare an ONNX network with PyTorch's on random batches of several sizes.

    Raises:
        ExportError: a logit differs by more than `TOLERANCE`, or it cannot be run on one of these sizes.
    """
    batches = [torch.randn(size, *shape, generator=generator("onnx", size)) for size in CHECKED_BATCHES]
    for images, found in zip(batches, _by_onnxruntime(content, batches), strict=True):
        with torch.no_grad(), in_mode(network, training=False):
            wanted: Tensor = network(images)
        off = (found - wanted).abs().max().item() / max(1.0, wanted.abs().max().item())
        if not off <= TOLERANCE:  # so that what is no number fails too
            raise ExportError(
                f"the ONNX network differs from PyTorch's by {off:.2g} of its largest logit; {TOLERANCE:g} may be"
            )


def _by_onnxruntime(content: bytes, batches: Sequence[Tensor]) -> list[Tensor]:
    import onnxruntime  # noqa: PLC0415 -- an extra

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(session.run(None, {"images": images.numpy()})[0]) for images in batches]
    except Exception as error:  # its errors have no base of their own
        raise ExportError(
            f"onnxruntime cannot run the ONNX network on batches of {', '.join(map(str, CHECKED_BATCHES))}:"
            f" {_origin(error)}"
        ) from error


def _origin(error: BaseException) -> str:
    """Give the text of what an error goes back to, up to its first empty line: what follows is advice by the page."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).strip().partition("\n\n")[0].split())


def require_free(folder: Path) -> None:
    """Check that nothing but an earlier export would be overwritten.

    Raises:
        ExportError: other files are there, or it is no folder.
    """
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if found and not (found <= set(FILES) and _is_export(folder)):
        raise ExportError(f"{folder} holds something else than an exported model; choose another --out")


def _is_export(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "architecture.json").read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write an export, and take away what an earlier one had besides."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name in files:
            protocol.write_atomically(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read an exported model back: the network in evaluation mode on the CPU, and its description.

    Raises:
        ExportError: the folder holds no exported model of this version.
        ConfigurationError: its search space is not installed.
    """
    try:
        description: dict[str, Any] = json.loads((folder / "architecture.json").read_bytes())
        state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    except (OSError, ValueError) as error:
        raise ExportError(f"no exported model in {folder}: {error}") from error
    if description.get("format") != FORMAT:
        raise ExportError(f"{folder} is of format {description.get('format')!r}, not {FORMAT!r}")
    space = plugins.build(
        "spaces", description["space"]["name"], description["space"]["options"], key="space"
    )
    planes = description["input"]["shape"][1]
    network: nn.Module = space.build(description["architecture"], planes, description["classes"])
    network.load_state_dict(state)
    return network.eval(), description
