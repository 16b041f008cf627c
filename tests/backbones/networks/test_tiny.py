"""The small networks give the same numbers as plain layers of PyTorch."""

import copy

import pytest
import torch
from torch import nn

from backbones.learner.loss import LAYOUTS
from backbones.networks.tiny import TinyAudio


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_mean_over_positions_is_average_pooling(precision):
    torch.manual_seed(0)
    fast = TinyAudio().to(memory_format=LAYOUTS["audio"])
    plain = copy.deepcopy(fast)
    plain[-1] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    clips = torch.randn(6, 1, 64, 99).contiguous(memory_format=LAYOUTS["audio"])
    weights = torch.randn(6, 192)
    of_networks = []
    for network in (fast, plain):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            features = network(clips)
        (features.float() * weights).sum().backward()
        of_networks.append([features.detach(), *(p.grad for p in network.parameters())])
    for ours, theirs in zip(*of_networks, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
