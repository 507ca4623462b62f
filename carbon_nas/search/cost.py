"""What one inference costs, by the name that the user chose: where it is kept, and how people read it.

An architecture has one cost, known before it is trained: its scoring records it, under a name that no proxy has, so
that it is weighed against quality and does not tell of it. A count that a training reports too stands in where
there was no scoring. How a cost is found is the business of `evaluate.costing`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from carbon_nas.model import Evaluation, JobKind

PUBLISHED = "latency:"
"""What a device's name follows, for latencies that others have published."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One thing that an inference may cost.

    Attributes:
        name: as in the configuration.
        kind: how it is found; the costs of all published devices are of one kind.
        noun: what it is, in the middle of a sentence.
        recorded: its name among the values of a scoring, in its base unit: a count, or seconds.
        reported: its name among those of a training, if trainings tell it.
        unit: what people read it in, for a column.
        label: the unit in words, and of what, for an axis or a sentence.
        scale: base units of one `unit`.
    """

    name: str
    kind: str
    noun: str
    recorded: str
    reported: str | None
    unit: str
    label: str
    scale: float

    @property
    def device(self) -> str | None:
        """The device that the cost was published of; None for any other."""
        return self.name.removeprefix(PUBLISHED) if self.kind == PUBLISHED else None


FLOPS = Cost(
    name="flops",
    kind="flops",
    noun="flops",
    recorded="inference_flops",
    reported="flops",
    unit="MMAC",
    label="M multiply-accumulates of one image",
    scale=1e6,
)
PARAMETERS = Cost(
    name="parameters",
    kind="parameters",
    noun="parameters",
    recorded="inference_parameters",
    reported="parameters",
    unit="M parameters",
    label="M parameters",
    scale=1e6,
)
LATENCY = Cost(
    name="latency",
    kind="latency",
    noun="latency",
    recorded="latency_seconds",
    reported=None,
    unit="ms",
    label="ms for one image, measured by the search",
    scale=1e-3,
)
_ON_DEVICE = replace(LATENCY, name=PUBLISHED, kind=PUBLISHED, label="ms on {}, as published")

COSTS: Mapping[str, Cost] = {cost.name: cost for cost in (FLOPS, PARAMETERS, LATENCY)}
NAMES = (*COSTS, f"{PUBLISHED}DEVICE")

_RECORDED = frozenset(cost.recorded for cost in COSTS.values())


def named(name: str) -> Cost:
    """Give the cost of that name. Any device is taken: who has the table of those published knows them.

    Raises:
        ValueError: there is none.
    """
    device = name.removeprefix(PUBLISHED)
    if name.startswith(PUBLISHED) and device:
        return replace(_ON_DEVICE, name=name, label=_ON_DEVICE.label.format(device))
    if name not in COSTS:
        raise ValueError(f"no cost named {name!r}; known: {', '.join(NAMES)}")
    return COSTS[name]


def proxies(values: Mapping[str, float]) -> dict[str, float]:
    """Give the raw proxy scores among the values of a scoring: all that is no cost."""
    return {name: value for name, value in values.items() if name not in _RECORDED}


def known(evaluations: Iterable[Evaluation], cost: Cost) -> dict[str, float]:
    """Give the one cost of each architecture, in its base unit; those of whom nothing tells it are left out.

    What a scoring recorded comes before what a training reports, and the first before any later one.
    """
    names = {JobKind.SCORE: cost.recorded, JobKind.TRAIN: cost.reported}
    found: dict[JobKind, dict[str, float]] = {kind: {} for kind in names}
    for evaluation in evaluations:
        name = names[evaluation.kind]
        if name is not None and name in evaluation.values:
            found[evaluation.kind].setdefault(evaluation.arch, evaluation.values[name])
    return found[JobKind.TRAIN] | found[JobKind.SCORE]
