"""How a GPU says that its memory is exceeded."""

import torch

WORDS = ("ALLOC_FAILED", "ALLOCATION_FAILED")
"""Of the statuses of cuBLAS and cuDNN, which have memory of their own; torch makes them plain RuntimeErrors."""


def is_exceeded(error: RuntimeError) -> bool:
    """Say whether it is the memory that did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in WORDS)
