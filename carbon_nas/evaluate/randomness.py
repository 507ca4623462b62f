"""Seeds that depend on what they are for and on nothing else, and the state of every generator in use."""

import hashlib
import random
from typing import Any

import numpy as np
import torch


def stable_seed(*parts: object) -> int:
    """Give a seed below 2^63 that is the same for the same parts, in every process and on every machine."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """Give a CPU generator seeded by `parts`: a counter-based draw, whatever was drawn before."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Give the state of the global generators, as plain values and tensors."""
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _numpy_state() -> tuple[str, list[int], int, int, float]:
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)  # noqa: S101 -- for the type checker: it is, unless `legacy`
    inner = state["state"]
    return state["bit_generator"], inner["key"].tolist(), inner["pos"], state["has_gauss"], state["gauss"]


def restore_rng(state: dict[str, Any]) -> None:
    """Undo `rng_state`. CUDA's state is taken only where there are as many devices as then."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
