"""How much of the loss hangs on whole channels (Theis et al., arXiv 1801.05787; Turner et al., ICLR 2020, 1906.04113).

For a channel c of the output a of a layer, the Fisher information of its being there is

    F_c = 1/2 mean over images of (sum over positions of a_c dL/da_c)^2

As Abdelfattah et al. (arXiv 2101.08134) count it, each weight of the layer has the value of the channel it leads
to, so that F_c counts once for each weight of one channel. L is the mean loss, as there. Of a disconnected network
it is what the classifier's bias gives, near zero.
"""

import math

from torch import Tensor

from carbon_nas.evaluate.proxies.differentiation import Call
from carbon_nas.evaluate.proxies.passes import Passes, summed


def fisher(passes: Passes) -> float:
    """Give the sum over all weights, zero where no gradient arrives.

    NaN without convolutions and linear layers, or if one's weight is used by other means than its own call.
    """
    if not passes.knows_all_calls:
        return math.nan
    calls = zip(passes.forward.calls, passes.output_gradients, strict=True)
    return summed(_information(call, gradient) for call, gradient in calls)


def _information(call: Call, gradient: Tensor) -> Tensor:
    by_image = call.by_channel(call.output.detach() * gradient).sum(2)
    return by_image.square().mean(0).sum() / 2 * call.weight[0].numel()
