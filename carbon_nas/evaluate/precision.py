"""Which floating-point type a training computes in."""

import torch

from carbon_nas.errors import JobError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Give the type of autocast; float32 is without. "auto" takes the fastest that the device itself has.

    Raises:
        JobError: float16 on a CPU, where it would be slower and lose gradients.
    """
    if precision == "float16" and device.type != "cuda":
        raise JobError('precision "float16" needs a GPU; on a CPU use "float32" or "bfloat16"')
    if precision != "auto":
        return DTYPES[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
