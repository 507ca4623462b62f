"""Checkpoints that survive a crash at any moment, and are never taken for another job's.

A checkpoint is a file `.pt`, what `torch.save` makes of one plain dict, and a manifest `.json` of the same name
(`<attempt>-<step>-<epoch>`), written after it: no manifest, no checkpoint. Each is written to a temporary file,
flushed, synced and renamed, and the folder synced. The newest two are kept, because the last may be damaged.
"""

import hashlib
import io
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from carbon_nas.errors import CheckpointError
from carbon_nas.evaluate.protocol import write_atomically

KEPT = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is: whose, how far, by which attempt and torch, and the SHA-256 of its bytes."""

    spec_hash: str
    attempt: int
    step: int
    epoch: int
    sha256: str
    torch_version: str


_MANIFEST = TypeAdapter(Manifest)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Keep `state` as the newest checkpoint and let the third newest go.

    `state` holds plain values and tensors, among them `spec_hash`, `attempt`, `step` and `epoch`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    manifest = Manifest(
        spec_hash=state["spec_hash"],
        attempt=state["attempt"],
        step=state["step"],
        epoch=state["epoch"],
        sha256=hashlib.sha256(content).hexdigest(),
        torch_version=str(torch.__version__),
    )
    name = f"{manifest.attempt:06d}-{manifest.step:09d}-{manifest.epoch:06d}"
    write_atomically(folder / f"{name}.pt", content)
    write_atomically(folder / f"{name}.json", json.dumps(asdict(manifest)).encode())
    kept = {path.stem for path in manifests(folder)[:KEPT]}
    for path in folder.iterdir():
        if path.stem not in kept:
            path.unlink(missing_ok=True)


def manifests(folder: Path) -> list[Path]:
    """Give the manifests, the newest first: attempts count up, and so do the steps of one."""
    return sorted(folder.glob("[0-9]*.json"), reverse=True)


def load_newest(folder: Path, spec_hash: str) -> dict[str, Any] | None:
    """Give the newest good checkpoint, its tensors on the CPU; None if there is none. Damaged ones are skipped.

    Raises:
        CheckpointError: it is of another job, or of this one under other settings.
    """
    for path in manifests(folder):
        try:
            manifest, state = read(path)
        except CheckpointError as error:
            log.warning("falling back to the checkpoint before: %s", error)
            continue
        if manifest.spec_hash != spec_hash:
            raise CheckpointError(
                f"{path} is of another job, or the job's settings have changed since it began"
            )
        return state
    return None


def read(path: Path) -> tuple[Manifest, dict[str, Any]]:
    """Read the checkpoint of a manifest.

    Raises:
        CheckpointError: it is incomplete, or its bytes are not those that were written.
    """
    try:
        manifest = _MANIFEST.validate_json(path.read_bytes())
        content = path.with_suffix(".pt").read_bytes()
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{path} is incomplete: {error}") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise CheckpointError(f"{path.with_suffix('.pt')} is damaged: its SHA-256 is not the manifest's")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return manifest, state
