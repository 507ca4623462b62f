"""From a state directory to a folder with one of its models: weights, description, ONNX and card."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carbon_nas.errors import ConfigurationError, StoreError
from carbon_nas.model import JobKind
from carbon_nas.plugins import suggestion
from carbon_nas.report import RunRecord, build_report
from carbon_nas.report.card import account, render_card
from carbon_nas.report.model import CostUnit, TrainedCandidate
from carbon_nas.search.cost import proxies

BEST = "best"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `without_onnx` is why `model.onnx` is not among the files, if it is not."""

    arch: str
    accuracy: float | None
    files: tuple[str, ...]
    without_onnx: str | None


def export_model(
    state_dir: Path,
    record: RunRecord,
    scores: Mapping[str, Mapping[str, float]],
    *,
    arch: str,
    out: Path,
    data_dir: Path | None = None,
) -> Exported:
    """Write the model of `arch`, or the most accurate if that is `BEST`, into the folder `out`.

    A network that cannot be ONNX is written without.

    Raises:
        StoreError: nothing is trained yet.
        ConfigurationError: `arch` is not trained here.
        ExportError: its weights are gone, or `out` holds other files.
    """
    report = build_report(record)
    training = choose(report.search.trainings, arch)
    from carbon_nas.evaluate import export  # noqa: PLC0415 -- loads torch

    export.require_free(out)
    model = export.restore(
        state_dir / "jobs" / training.job_id, accuracy=training.accuracy, data_dir=data_dir
    )
    results = {job: found for job, found in record.evaluations if found.kind is JobKind.TRAIN}
    description = {
        **export.describe(model),
        "results": _finite(results[training.job_id].values),
        "proxies": _finite(proxies(scores.get(training.arch, {}))),
        "inference_cost": _cost(report.search.cost, training),
        "emissions": account(report, record, training),
    }
    files = {
        "model.pt": export.weights(model.network),
        "architecture.json": json.dumps(description, indent=2, ensure_ascii=False).encode() + b"\n",
    }
    without_onnx = None
    try:
        shape = (model.task.planes, model.task.side, model.task.side)
        files["model.onnx"] = export.to_onnx(model.network, shape)
    except export.ExportError as error:
        without_onnx = str(error)
    files["README.md"] = render_card(report, training, description, tuple(files)).encode()
    export.write(out, files)
    return Exported(training.arch, training.accuracy, tuple(files), without_onnx)


def choose(trainings: Sequence[TrainedCandidate], arch: str) -> TrainedCandidate:
    """Give the training of `arch`, or the first if that is `BEST`: they come the most accurate first.

    Only who asks for it by name gets one that has paused after some of its epochs.

    Raises:
        StoreError: there is none.
        ConfigurationError: none of them is of `arch`; the text names the nearest.
    """
    if not trainings or (arch == BEST and trainings[0].paused):
        raise StoreError("no training has finished yet, so there is no model to export")
    for training in trainings:
        if arch in {BEST, training.arch}:
            return training
    near = suggestion(arch, [training.arch for training in trainings])
    raise ConfigurationError(
        f"no finished training is of {arch!r}{near}; {len(trainings)} are, and `carbon-nas report` lists them",
        key="--arch",
    )


def _cost(cost: CostUnit, training: TrainedCandidate) -> dict[str, Any] | None:
    """Give what the search took an inference to cost; None if it is not known."""
    spent = training.inference_cost
    return None if spent is None else {"name": cost.name, "value": spent / cost.scale, "unit": cost.label}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
