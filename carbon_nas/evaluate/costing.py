"""How the cost of an inference is found when an architecture is scored: counted, measured, or looked up.

A measured latency is noisy, and yet must be the same number at each look. It is measured once for all architectures
that compute the same, of the plainest of them, and kept in `latencies/` beside the jobs' own directories, where
every runner finds it. One measures at a time, so that two do not slow each other down; what else the machine does
meanwhile still may.
"""

import fcntl
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from carbon_nas.errors import JobError
from carbon_nas.evaluate import published
from carbon_nas.evaluate.data import Task
from carbon_nas.evaluate.inference import measure
from carbon_nas.evaluate.protocol import write_atomically
from carbon_nas.evaluate.scoring import Scorer, noise_batch
from carbon_nas.interfaces import SearchSpace
from carbon_nas.model import JobSpec
from carbon_nas.search.cost import PUBLISHED, Cost

FOLDER = "latencies"

WARM_UP, PASSES, SECONDS = 5, 5, 0.3
"""Of a measurement: as short as tells networks apart, since it is made of every candidate."""


@dataclass(frozen=True, slots=True)
class Costing:
    """What finding a cost needs: the job, its space, data set and scorer."""

    spec: JobSpec
    space: SearchSpace
    task: Task
    scorer: Scorer

    def find(self, cost: Cost, arch: str) -> float:
        """Give the cost of one inference of `arch`, in its base unit.

        Raises:
            ConfigurationError: nothing is published of such a network.
            JobError: it cannot be counted.
            ValueError: `arch` is not of the space.
        """
        return FINDERS[cost.kind](self, cost, arch)

    def count(self, proxy: str, arch: str) -> float:
        """Count by one of the proxies; what it has counted already, the scorer knows.

        Raises:
            JobError: it is not known.
        """
        counted = (self.scorer.score(arch, [proxy]) or {})[proxy]
        if math.isnan(counted):
            raise JobError(f"the {proxy} of {arch} cannot be counted; choose another score.inference_cost")
        return counted

    def latency_seconds(self, arch: str) -> float:
        """Give the median seconds of a forward pass of one image, measured unless it has been before."""
        canonical = self.space.canonical(arch)
        folder = self.spec.directory.parent / FOLDER
        folder.mkdir(exist_ok=True)
        place = folder / f"{self._digest(canonical)}.json"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.exists():
                found = {"arch": canonical, "latency_seconds": self._measure(canonical)}
                write_atomically(place, json.dumps(found).encode())
        return float(json.loads(place.read_bytes())["latency_seconds"])

    def published_seconds(self, device: str, arch: str) -> float:
        """Look up the seconds of a forward pass on a device that is not here."""
        published.require_benchmark(self.space, self.spec.space_options, side=self.task.side)
        return published.latency_seconds(device, arch)

    def _measure(self, arch: str) -> float:
        device, shape = self.task.train.labels.device, (self.task.planes, self.task.side, self.task.side)
        image, _ = noise_batch(shape, self.task.classes, 1, self.spec.seed, device)
        network = self.space.build(arch, self.task.planes, self.task.classes).to(device)
        return measure(network, image, None, warm_up=WARM_UP, passes=PASSES, seconds=SECONDS).median_seconds

    def _digest(self, arch: str) -> str:
        """Give a name for all that a latency depends on: the network, its images, and where it runs."""
        spec, task = self.spec, self.task
        where = torch.cuda.get_device_name() if task.train.labels.is_cuda else f"cpu, {spec.threads} threads"
        parts = [spec.space, dict(spec.space_options), arch, task.planes, task.side, task.classes, where]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


FINDERS: Mapping[str, Callable[[Costing, Cost, str], float]] = {
    "flops": lambda costing, _, arch: costing.count("flops", arch),
    "parameters": lambda costing, _, arch: costing.count("params", arch),
    "latency": lambda costing, _, arch: costing.latency_seconds(arch),
    PUBLISHED: lambda costing, cost, arch: costing.published_seconds(cost.device or "", arch),
}
"""By the kind of `search.cost.Cost`."""
