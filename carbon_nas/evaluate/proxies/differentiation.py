"""Layers that are cheap to differentiate, once and twice.

A layer with its weights held fixed is a linear map A of its input x; its derivative is the adjoint map, whose own
derivative is A again. So the graph is made of maps, a pass backward through it costs what its maps cost, and only
where it is wanted is the derivative by the weights made, from x and the gradient by the layer's output. torch's second
derivative of a convolution makes the one by the weights whether it is wanted or not. Average pooling is a linear map
too; a CPU does it several times as fast with the channels last, or by a convolution with ones, with the same result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function
from torch.nn import grad

from carbon_nas.evaluate.proxies.normalisation import batch_norm
from carbon_nas.evaluate.proxies.replacing import Operation, Replacing

LinearMap: TypeAlias = Callable[[Tensor], Tensor]


class Geometry(NamedTuple):
    """How a convolution's window moves."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a layer's weight.

    Attributes:
        place: the layer's, among those looked for.
        weight: held fixed; so is `bias`.
        inputs: what came in, [B, ...].
        output: what came out, with its graph, [B, ...]; a tensor of its own, and so is the gradient by it, also
            where a sum hands one gradient to all its parts.
        geometry: of a convolution; None of a linear layer.
    """

    place: int
    weight: Tensor
    bias: Tensor | None
    inputs: Tensor
    output: Tensor
    geometry: Geometry | None

    def by_weight(self, gradient: Tensor) -> Tensor:
        """Give the gradient by the weight that comes of one by the output."""
        if self.geometry is None:
            return gradient.flatten(0, -2).T @ self.inputs.flatten(0, -2)
        found: Tensor = grad.conv2d_weight(self.inputs, self.weight.shape, gradient, *self.geometry)  # type: ignore[no-untyped-call]
        return found

    def product(self) -> Tensor:
        """Give weight times input: the output without the bias and without a graph."""
        output = self.output.detach()
        if self.bias is None:
            return output
        return output - (self.bias if self.geometry is None else self.bias[:, None, None])

    def by_channel(self, values: Tensor) -> Tensor:
        """Give values of the output's form as [B, channels, positions]."""
        channels = values.movedim(-1, 1) if self.geometry is None else values
        return channels.reshape(*channels.shape[:2], -1)


RECTIFIERS = (
    *(F.relu, torch.relu_, Tensor.relu_, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu),
    *(F.silu, F.hardswish, F.gelu, F.mish),
)
"""The activations whose output is above zero exactly where their input is: a unit is active there."""

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)


class Recording(Replacing):
    """While it is on, convolutions, linear layers, ReLUs, poolings and batch normalisation are those of this module.

    It takes the place of the functions that modules call, for the weights it was given, and keeps a `Call` of each
    use. By these weights nothing can be differentiated through such a use: that is what `Call.by_weight` is for. Of
    a weight that is None no call is kept. Values are torch's to the bit, but for dropout, which drops nothing, and
    batch normalisation, which takes a channel of one value too.

    Attributes:
        calls: each use of a weight, in their order.
        rectified: the output of each call of one of `RECTIFIERS`, zero instead of what is below it, [B, ...], in
            the order of the calls, without a graph.
    """

    def __init__(self, weights: Sequence[Tensor | None], *, apart: bool = False) -> None:
        """Record the uses of `weights`, which must outlive this.

        Args:
            weights: a layer's place is its weight's among these.
            apart: for networks that write over what layers and activations gave: what is kept is a copy.
        """
        calls: list[Call] = []
        rectified: list[Tensor] = []
        places = {id(weight): place for place, weight in enumerate(weights) if weight is not None}
        handed = torch.clone if apart else _kept
        # nothing that leads back to this, or the calls would live until the collector runs
        layers: dict[Operation, Operation] = {
            function: partial(_layer, function, places, calls, handed) for function in (F.conv2d, F.linear)
        }
        rectifiers: dict[Operation, Operation] = {
            function: partial(_rectifier, function, rectified, handed) for function in RECTIFIERS
        }
        relus = dict.fromkeys((torch.relu, Tensor.relu), rectifiers[F.relu])
        rest: dict[Operation, Operation] = {
            F.batch_norm: _batch_norm,
            F.avg_pool2d: _avg_pool2d,
            **dict.fromkeys(DROPOUTS, _kept),
        }
        super().__init__(layers | rectifiers | relus | rest)
        self.calls = calls
        self.rectified = rectified

    @property
    def overwritten(self) -> bool:
        """Whether something that is kept was written over after it was made."""
        return any(map(times_written, [*(call.output for call in self.calls), *self.rectified]))


def times_written(tensor: Tensor) -> int:
    """Give how often something was written into a tensor, or one that shares its memory, since it was made."""
    return tensor._version  # noqa: SLF001 -- torch has no other name for it


def _layer(
    function: Operation,
    places: Mapping[int, int],
    calls: list[Call],
    handed: Callable[[Tensor], Tensor],
    input: Tensor,  # noqa: A002 -- torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    *moves: Any,
    **named: Any,
) -> Tensor:
    """Do what `function` does; with a weight that has a place, by maps, and keep the call."""
    if id(weight) not in places:
        passed: Tensor = function(input, weight, bias, *moves, **named)
        return passed
    x, fixed, shift, geometry = input, weight.detach(), None if bias is None else bias.detach(), None
    if function is F.conv2d:
        x, geometry = _padded(x, fixed, Geometry(*moves, **named))
        output = _convolution(x, fixed, shift, geometry)
    else:
        output = F.linear(x, fixed, shift)
    output.requires_grad_()  # also where the input is constant
    calls.append(Call(places[id(weight)], fixed, shift, x, output, geometry))
    return handed(output.view_as(output))


def _rectifier(
    function: Operation,
    rectified: list[Tensor],
    handed: Callable[[Tensor], Tensor],
    input: Tensor,  # noqa: A002
    *how: Any,
    **named: Any,
) -> Tensor:
    """Do what `function` does and keep what is above zero."""
    if function is not F.relu or how or named.get("inplace"):  # whoever writes in place may read it there
        output: Tensor = function(input, *how, **named)
        rectified.append(output.detach().relu())
        return output
    output = _rectified(input)
    rectified.append(output.detach())
    return handed(output)


def _kept(input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002
    return input


def _batch_norm(
    x: Tensor, mean: Tensor | None, variance: Tensor | None, *, training: bool, **named: Any
) -> Tensor:
    if training:
        return batch_norm(x, mean, variance, **named)
    return F.batch_norm(x, mean, variance, training=False, **named)


def _avg_pool2d(*given: Any, **named: Any) -> Tensor:
    if named or given[0].dim() != 4 or given[0].device.type != "cpu":
        return F.avg_pool2d(*given, **named)
    return _pooling(*given)


def _padded(x: Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """Do the padding that has a name beforehand."""
    if not isinstance(geometry.padding, str):
        return x, geometry
    if geometry.padding == "same":
        reach = [d * (k - 1) for k, d in zip(weight.shape[2:], _pair(geometry.dilation), strict=True)]
        x = F.pad(x, [side for r in reversed(reach) for side in (r // 2, r - r // 2)])
    return x, geometry._replace(padding=0)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    shape = x.shape  # not x, which would be kept
    result: Tensor = _Map.apply(
        x,
        lambda x: F.conv2d(x, weight, bias, *geometry),
        lambda x: F.conv2d(x, weight, None, *geometry),
        lambda y: grad.conv2d_input(shape, weight, y, *geometry),  # type: ignore[no-untyped-call]
    )
    return result


def _rectified(x: Tensor) -> Tensor:
    """Do what `F.relu` does; torch's derivative, differentiated once more, adds a map of zeros."""
    y = x.detach().relu()
    kept = y.detach()  # not y, which will lead to the graph that leads to this

    def passed(g: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.threshold_backward(g, kept, 0)
        return found

    result: Tensor = _Map.apply(x, lambda _: y, passed, passed)
    return result


def _pooling(
    x: Tensor,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Tensor:
    window: tuple[Any, ...] = (
        _pair(size),
        _pair(stride or size),
        _pair(padding),
        ceil,
        count_padding,
        divisor,
    )
    if _keeps_the_size(window) and x.dtype is torch.float32:
        return _smoothed(x, window[0])
    shape = x.shape

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.contiguous(memory_format=torch.channels_last), *window).contiguous()

    def spread(y: Tensor) -> Tensor:
        last = y.contiguous(memory_format=torch.channels_last)
        like = torch.empty(shape, dtype=y.dtype, memory_format=torch.channels_last)
        spread: Tensor = torch.ops.aten.avg_pool2d_backward(last, like, *window)
        return spread.contiguous()

    result: Tensor = _Map.apply(x, pool, pool, spread)
    return result


def _keeps_the_size(window: tuple[Any, ...]) -> bool:
    """Whether it moves by one, over positions of the map alone, as far as to its edges: NAS-Bench-201's pooling."""
    size, stride, padding, _, count_padding, divisor = window
    reach = [side // 2 for side in size]
    return (
        stride == [1, 1]
        and padding == reach
        and size[0] % 2 == size[1] % 2 == 1
        and not (count_padding or divisor)
    )


def _smoothed(x: Tensor, size: list[int]) -> Tensor:
    """Do such a pooling by a convolution of each channel with ones: the same sums in the same order.

    For maps [64, 16, 32, 32] it took 3.4 ms on one core, torch's own 20, that with the channels last and back 5.7.
    """
    reach, channels = [side // 2 for side in size], x.shape[1]
    ones = x.new_ones(channels, 1, *size)
    counts = F.conv2d(x.new_ones(1, 1, *x.shape[2:]), ones[:1], padding=reach)

    def sums(x: Tensor) -> Tensor:
        return F.conv2d(x, ones, padding=reach, groups=channels)

    result: Tensor = _Map.apply(
        x, lambda x: sums(x) / counts, lambda x: sums(x) / counts, lambda y: sums(y / counts)
    )
    return result


def _pair(number: Any) -> list[int]:
    return [number] * 2 if isinstance(number, int) else list(number)


class _Map(Function):
    """A map whose linear part is `there`, with the adjoint `back`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, whole: LinearMap, there: LinearMap, back: LinearMap) -> Tensor:
        ctx.there, ctx.back = there, back
        return whole(x)

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple[Tensor | None, ...]:
        return _Map.apply(y, ctx.back, ctx.back, ctx.there), None, None, None
