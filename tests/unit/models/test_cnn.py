import subprocess
import sys

import pytest
import torch
from torch import nn

from medray.models.cnn import NETWORKS, Layout


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("channels", [1, 3])
def test_gives_one_logit_per_output(name: str, channels: int) -> None:
    network = NETWORKS[name]
    size = (max(32, network.smallest), max(40, network.smallest))
    net = network.build(Layout(channels, size, outputs=3, dropout=0.1)).eval()
    with torch.no_grad():
        assert net(torch.rand(2, channels, *size)).shape == (2, 3)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_takes_the_smallest_picture_it_promises(name: str) -> None:
    network = NETWORKS[name]
    size = (network.smallest, network.smallest)
    net = network.build(Layout(1, size, outputs=1)).eval()
    with torch.no_grad():
        assert torch.isfinite(net(torch.rand(2, 1, *size))).all()


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_layer_of_grad_cam_gives_a_map(name: str) -> None:
    net = NETWORKS[name].build(Layout(1, (64, 64), outputs=2)).eval()
    seen: list[torch.Size] = []
    layer = NETWORKS[name].last_feature_map(net)
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.no_grad():
        net(torch.rand(2, 1, 64, 64))
    assert len(seen) == 1
    assert len(seen[0]) == 4


def test_conv3_is_the_network_of_the_tutorial() -> None:
    net = NETWORKS["conv3"].build(Layout(3, (32, 32), outputs=10, dropout=0.5))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [
        (3, 32, (3, 3)),
        (32, 64, (3, 3)),
        (64, 128, (3, 3)),
    ]
    dense = [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]
    assert dense == [(128 * 4 * 4, 128), (128, 10)]
    assert sum(isinstance(m, nn.MaxPool2d) for m in net.modules()) == 3


def test_small_stem_keeps_the_resolution() -> None:
    net = NETWORKS["resnet18"].build(Layout(1, (28, 28), 1, stem="small", width=0.125))
    shapes: list[torch.Size] = []
    net.get_submodule("layer1").register_forward_hook(lambda m, i, o: shapes.append(o.shape))
    net(torch.rand(2, 1, 28, 28))
    assert shapes == [(2, 8, 28, 28)]


def test_conv3_starts_without_monai() -> None:
    code = (
        "import sys; from medray.models.cnn import *;"
        "NETWORKS['conv3'].build(Layout(1, (16, 16), 1)); assert 'monai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
