"""The card that goes with an exported model: a README with the metadata that Hugging Face's model hub reads.

Its `co2_eq_emissions` (huggingface.co/docs/hub/model-cards-co2) are those of this model's training, in grams. What
the search emitted that found it stands beside them in the text, since the model would not be without it. What is
not known is left out: a missing figure must not read as zero.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from carbon_nas.energy.quantities import emissions_text, energy_text
from carbon_nas.evaluate.settings import DATA_SETS
from carbon_nas.report.model import Report, TrainedCandidate
from carbon_nas.report.record import RunRecord
from carbon_nas.report.words import cost_text

SPLIT = "validation: the last fifth of each class of the training split"

USE = """```python
from pathlib import Path

import torch
from carbon_nas.evaluate.export import load

network, about = load(Path("."))
mean, deviation = (torch.tensor(about["input"][name])[:, None, None] for name in ("mean", "deviation"))
logits = network((pixels / 255 - mean) / deviation)  # pixels: [batch, {planes}, {side}, {side}], 0 to 255
```"""

FILES = {
    "model.pt": "the weights, a state dict: `torch.load(..., weights_only=True)`",
    "architecture.json": "how the network is made, what it takes, what is known of it",
    "model.onnx": "the same network as ONNX: `images`, normalised as above, to `logits`; any batch size",
}


def account(report: Report, record: RunRecord, training: TrainedCandidate) -> dict[str, Any]:
    """Give what the training and the search used and emitted, from the ledger; without what is not known."""
    totals, method = report.totals, report.intensity_method
    found = {
        "training": _known(energy_kwh=training.energy_kwh, emissions_grams=training.emissions_grams),
        "search": _known(energy_kwh=totals.energy_kwh, emissions_grams=totals.emissions_grams),
        "energy_method": f"{report.energy_method.statement}; PUE {report.boundary.pue:g}",
        "intensity": f"{', '.join(method.providers)}; {method.signal}, {method.basis}; {method.accounting}",
        "zone": method.zone,
        "hardware": _hardware(record, (*training.earlier_jobs, training.job_id)),
        "replay": report.period.replay,
    }
    return _known(**found)


def render_card(
    report: Report, training: TrainedCandidate, description: Mapping[str, Any], files: Sequence[str]
) -> str:
    """Write the card of an exported model from its description, of which `emissions` is `account`'s."""
    parts = [
        "---",
        *_metadata(report, training, description),
        "---",
        "",
        *_body(report, training, description),
    ]
    parts += ["", "## Files", "", *(f"- `{name}`: {FILES[name]}" for name in files)]
    return "\n".join(parts) + "\n"


def _metadata(report: Report, training: TrainedCandidate, description: Mapping[str, Any]) -> Iterator[str]:
    """Write YAML, each value as JSON, which YAML takes in; numbers without the exponents that YAML 1.1 misreads."""
    emissions = description["emissions"]
    source = (
        f"carbon-nas {report.tool.version}, ledger: {emissions['energy_method']}; {emissions['intensity']}"
    )
    if "replay" in emissions:
        source += f". {emissions['replay']}"
    carbon = _known(
        emissions=emissions["training"].get("emissions_grams"),
        source=source,
        training_type="pre-training",
        geographical_location=f"grid zone {emissions['zone']}",
        hardware_used=emissions.get("hardware"),
    )
    dataset = description["training"]["dataset"]
    yield 'library_name: "carbon-nas"'
    yield 'pipeline_tag: "image-classification"'
    yield 'tags: ["neural-architecture-search", "carbon-aware"]'
    yield 'metrics: ["accuracy"]'
    yield "co2_eq_emissions:"
    yield from (f"  {name}: {_yaml(value)}" for name, value in carbon.items())
    if training.accuracy is None:
        return
    yield "model-index:"
    yield f"  - name: {_yaml(report.study)}"
    yield "    results:"
    yield '      - task: {"type": "image-classification"}'
    yield f"        dataset: {{name: {_yaml(dataset)}, type: {_yaml(dataset)}, split: {_yaml(SPLIT)}}}"
    yield f'        metrics: [{{type: "accuracy", value: {_yaml(training.accuracy)}}}]'


def _body(report: Report, training: TrainedCandidate, description: Mapping[str, Any]) -> Iterator[str]:
    space, dataset = description["space"]["name"], description["training"]["dataset"]
    _, planes, side, _ = description["input"]["shape"]
    yield f"# {report.study}"
    yield ""
    yield f"A network of the search space `{space}` for the data set `{dataset}`"
    yield f"(licence of the data: {DATA_SETS[dataset].licence}), found by carbon-nas and trained from random weights:"
    yield ""
    yield f"    {description['architecture']}"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in _facts(report, training, description))
    yield ""
    yield f"The search chose among {report.search.trained} trained networks by accuracy on these validation images,"
    yield "so expect a little less on new ones. The test split was never read."
    yield ""
    yield "## Use"
    yield ""
    yield USE.format(planes=planes, side=side)
    yield ""
    yield "## Emissions"
    yield ""
    yield from _emissions(report, description["emissions"])


def _facts(
    report: Report, training: TrainedCandidate, description: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    if training.accuracy is not None:
        yield "accuracy", f"{training.accuracy:.2%} ({SPLIT})"
    if training.parameters is not None:
        yield "parameters", f"{training.parameters:,}"
    if training.flops is not None:
        yield "multiply-accumulates of one image", f"{training.flops:,.0f}"
    if training.inference_cost is not None:
        yield "inference cost in the search", cost_text(report.search.cost, training.inference_cost)
    if training.epochs is not None:
        yield "epochs of training", str(training.epochs)
    shape = ", ".join(map(str, description["input"]["shape"]))
    yield "input", f"[{shape}], {description['input']['is']}"
    yield "output", f"{description['classes']} logits"


def _emissions(report: Report, emissions: Mapping[str, Any]) -> Iterator[str]:
    yield "| | energy | emissions |"
    yield "| --- | --- | --- |"
    lines = (
        ("this model's training, all its attempts", emissions["training"]),
        ("the whole search that found it", emissions["search"]),
    )
    for name, used in lines:
        if used:
            energy, grams = energy_text(used["energy_kwh"]), emissions_text(used["emissions_grams"])
            yield f"| {name} | {energy} | {grams} CO₂e |"
    yield ""
    own, whole = (used.get("emissions_grams") for _, used in lines)
    if own is not None and whole:
        yield f"The training is {own / whole:.1%} of what the search emitted."
        yield ""
    yield f"Energy: {emissions['energy_method']}. Intensity: {emissions['intensity']}; zone {emissions['zone']}."
    for text in (report.intensity_method.attribution, emissions.get("replay")):
        if text:
            yield text
    yield ""
    yield "Not counted: " + "; ".join(each.what for each in report.boundary.excluded) + "."


def _hardware(record: RunRecord, jobs: Sequence[str]) -> str | None:
    """Name the devices that the training ran on; None where its slots are no longer known."""
    used = {row.slot_id for row in record.entries if row.job_id in jobs}
    return ", ".join(sorted({slot.name for slot in record.slots if slot.id in used})) or None


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _yaml(value: str | float) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return format(Decimal(repr(value)), "f")
