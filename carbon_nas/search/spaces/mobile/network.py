"""The networks of the space `mobile`, of torchvision's blocks.

Stem (3x3), the stages' MBConv blocks, head (1x1), mean over the image, a linear classifier. All convolutions but
those of squeeze-and-excitation have batch normalisation, and SiLU but for the last of each block. Squeeze-and-
excitation goes through a quarter of the block's input channels. Weights begin as EfficientNet's: Kaiming's normal
ones by fan-out, the classifier's uniform. There is neither dropout nor stochastic depth, so that scores depend on
the initial weights alone and nothing is drawn while training.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.efficientnet import MBConv, MBConvConfig
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation

from carbon_nas.search.spaces.mobile import Stage


class Network(nn.Module):
    """A whole network: images [B, planes, H, W] to logits [B, classes]."""

    def __init__(
        self, stages: Sequence[Stage], planes: int, classes: int, stem: int, stem_stride: int, head: int
    ) -> None:
        super().__init__()
        layers = [_convolution(planes, stem, 3, stem_stride)]
        channels = stem
        for stage in stages:
            for stride in [stage.stride] + [1] * (stage.blocks - 1):
                layers.append(_block(stage, channels, stride))
                channels = stage.channels
        self.features = nn.Sequential(*layers, _convolution(channels, head, 1))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(head, classes)
        _initialise(self)

    @property
    def blocks(self) -> list[nn.Module]:
        """What AZ-NAS calls primary blocks: the stem and each MBConv."""
        return list(self.features)[:-1]

    def forward(self, images: Tensor) -> Tensor:
        """Give logits [B, classes]."""
        logits: Tensor = self.classifier(self.pool(self.features(images)))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """Make convolution, batch normalisation, SiLU: [B, inputs, H, W] -> [B, outputs, ceil(H/s), ceil(W/s)]."""
    made: nn.Module = Conv2dNormActivation(inputs, outputs, kernel, stride, activation_layer=nn.SiLU)
    return made


def _block(stage: Stage, inputs: int, stride: int) -> nn.Module:
    """Make one MBConv: [B, inputs, H, W] -> [B, channels, ceil(H/s), ceil(W/s)], with a shortcut where that fits."""
    config = MBConvConfig(stage.expansion, stage.kernel, stride, inputs, stage.channels, num_layers=1)
    squeeze = SqueezeExcitation if stage.squeeze else _nothing
    made: nn.Module = MBConv(config, stochastic_depth_prob=0.0, norm_layer=nn.BatchNorm2d, se_layer=squeeze)
    return made


def _nothing(*_: object, **__: object) -> nn.Module:
    """Stand where squeeze-and-excitation would."""
    return nn.Identity()


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            bound = module.out_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
