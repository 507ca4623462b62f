"""The moving average of a network's weights, which is often better than the last weights."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Give an exponential moving average of the weights and of batch normalisation's statistics.

    The first update copies; number n after it keeps min(decay, (1 + n) / (10 + n)) of the average, so that the random
    weights of the beginning are soon forgotten.
    """

    def update(means: Any, values: Any, count: Any) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(kept)(means, values, count)  # type: ignore[no-untyped-call]

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
