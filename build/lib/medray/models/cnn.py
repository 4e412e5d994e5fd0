"""Convolutional networks for pictures: a literal dict of builders that return logits.

Owns layer shapes and nothing else: no data, no losses, no normalisation. MONAI is imported
inside the builders that use it, so that `conv3` starts without it.

Shapes: B items, C channels, H rows, W columns, K outputs (logits).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Stem = Literal["small", "standard"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a network is built for.

    size has one entry per spatial dimension: (rows, columns); volumes will add depth in front.
    width multiplies the channels of every layer.
    """

    channels: int
    size: tuple[int, ...]
    outputs: int
    stem: Stem = "standard"
    width: float = 1.0
    dropout: float = 0.0

    @property
    def spatial_dims(self) -> int:
        """Two for pictures."""
        return len(self.size)


@dataclass(frozen=True, slots=True)
class Network:
    """One architecture: how it is built, where Grad-CAM looks, what it can be asked for.

    smallest is the least number of rows and columns it takes, with its standard stem.
    """

    build: Callable[[Layout], nn.Module]
    last_feature_map: Callable[[nn.Module], nn.Module]
    smallest: int
    stems: tuple[Stem, ...] = ("standard",)
    scalable: bool = False


class Conv3(nn.Module):
    """Three 3×3 convolutions with ReLU and 2×2 max-pooling, one dense layer: x_BCHW → (B, K)."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        widths = [scaled(channels, layout.width) for channels in (32, 64, 128)]
        layers: list[nn.Module] = []
        before = layout.channels
        for after in widths:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = after
        self.features = nn.Sequential(*layers)
        flat = before * (layout.size[0] // 8) * (layout.size[1] // 8)
        dense = scaled(128, layout.width)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(flat, dense),
            nn.ReLU(),
            nn.Dropout(layout.dropout),
            nn.Linear(dense, layout.outputs),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """x_BCHW → logits_BK."""
        return self.head(self.features(x_BCHW))


def scaled(channels: int, width: float) -> int:
    """`channels` × `width`, at least 4."""
    return max(4, round(channels * width))


def _resnet(block: str, layers: tuple[int, int, int, int]) -> Callable[[Layout], nn.Module]:
    def build(layout: Layout) -> nn.Module:
        from monai.networks.nets.resnet import ResNet

        small = layout.stem == "small"
        net = ResNet(
            block=block,
            layers=list(layers),
            block_inplanes=[scaled(c, layout.width) for c in (64, 128, 256, 512)],
            spatial_dims=layout.spatial_dims,
            n_input_channels=layout.channels,
            conv1_t_size=3 if small else 7,
            conv1_t_stride=1 if small else 2,
            no_max_pool=small,
            num_classes=layout.outputs,
            bias_downsample=False,
        )
        if net.fc is not None:
            net.fc = nn.Sequential(nn.Dropout(layout.dropout), net.fc)  # pyright: ignore[reportAttributeAccessIssue]
        return net

    return build


def _densenet121(layout: Layout) -> nn.Module:
    from monai.networks.nets.densenet import DenseNet121

    return DenseNet121(
        spatial_dims=layout.spatial_dims,
        in_channels=layout.channels,
        out_channels=layout.outputs,
        init_features=scaled(64, layout.width),
        growth_rate=scaled(32, layout.width),
        dropout_prob=layout.dropout,
    )


def _efficientnet_b0(layout: Layout) -> nn.Module:
    from monai.networks.nets.efficientnet import EfficientNetBN

    net = EfficientNetBN(
        "efficientnet-b0",
        pretrained=False,
        spatial_dims=layout.spatial_dims,
        in_channels=layout.channels,
        num_classes=layout.outputs,
    )
    net._dropout = nn.Dropout(layout.dropout)  # pyright: ignore[reportPrivateUsage]
    return net


def _child(name: str) -> Callable[[nn.Module], nn.Module]:
    def find(module: nn.Module) -> nn.Module:
        return module.get_submodule(name)

    return find


NETWORKS: dict[str, Network] = {
    "conv3": Network(Conv3, _child("features.6"), smallest=8, scalable=True),
    "resnet18": Network(
        _resnet("basic", (2, 2, 2, 2)), _child("layer4"), 16, ("small", "standard"), scalable=True
    ),
    "resnet50": Network(
        _resnet("bottleneck", (3, 4, 6, 3)), _child("layer4"), 16, ("small", "standard"), True
    ),
    "densenet121": Network(_densenet121, _child("features"), smallest=32, scalable=True),
    "efficientnet_b0": Network(_efficientnet_b0, _child("_conv_head"), smallest=32),
}
