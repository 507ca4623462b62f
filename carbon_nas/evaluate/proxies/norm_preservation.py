"""How well the loss's gradient keeps its size from the last block back to the first.

With g_first and g_last the gradients by the outputs of the first and the last of the blocks (stem, cells, reductions),
and rms the root of the mean square over images, channels and positions, the score is

    -|log(rms(g_first) / rms(g_last))|

0 if the size is kept. Batch normalisation makes gradients grow exponentially with the number of layers on the way back
(Yang et al., ICLR 2019, arXiv 1902.08129), and shortcuts keep them as they are (Zaeemzadeh et al., IEEE TPAMI 2020,
arXiv 1805.07477, who named it). So this tells deep chains without a shortcut, which proxies that count parts overrate
most, from those with one. By itself it ranks badly: what does nothing keeps a gradient best.
"""

import math

from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes


def norm_preservation(passes: Passes) -> float:
    """Give the score; minus infinity where no gradient arrives, NaN with fewer than two blocks."""
    gradients = passes.block_gradients
    if len(gradients) < 2:
        return math.nan
    first, last = _rms(gradients[0]), _rms(gradients[-1])
    return -abs(math.log(first / last)) if first > 0 and last > 0 else -math.inf


def _rms(gradient: Tensor) -> float:
    return math.sqrt(float(gradient.double().square().mean()))
