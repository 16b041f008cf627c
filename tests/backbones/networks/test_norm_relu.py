"""Batch norm and ReLU in one operation give what PyTorch gives in float64, up to rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from backbones.networks import norm_relu as module
from backbones.networks.norm_relu import norm_relu
from backbones.networks.small import Layers, NanoAudio, NanoVideo, TinyAudio, TinyVideo

DTYPES = [torch.float32, torch.bfloat16]


def activations(shape: tuple[int, ...], dtype: torch.dtype, seed: int, mean: float = 0.0) -> Tensor:
    """Return activations of several channels, of different means, that lie side by side in memory."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + mean
    x *= torch.arange(1, shape[1] + 1).view(1, -1, *[1] * (len(shape) - 2))
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    return x.to(dtype).contiguous(memory_format=layout)


def results(norm: nn.Module, x: Tensor, slope: Tensor, *, plain: bool) -> list[Tensor]:
    """Return the output, the gradients of input, weight and bias, and the buffers, of a copy of a batch norm."""
    norm = copy.deepcopy(norm)
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = torch.relu(norm(x)) if plain else norm_relu(norm, x)
    out.backward(slope.to(out.dtype))
    return [out.detach(), x.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()]


def norm_of(shape: tuple[int, ...], seed: int) -> nn.Module:
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm3d)(shape[1])
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(shape[1], generator=rng))
        norm.bias.copy_(torch.randn(shape[1], generator=rng))
    return norm


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(2, 5), st.integers(1, 30), *[st.integers(1, 7)] * 3),
    flat=st.booleans(),
    training=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    mean=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 9),
)
def test_it_is_as_exact_as_pytorch(sizes, flat, training, dtype, mean, seed) -> None:
    shape = sizes[:4] if flat else sizes
    norm, x = norm_of(shape, seed), activations(shape, dtype, seed, mean)
    slope = activations(shape, dtype, seed + 2)
    norm.train(training)
    assert module._is_suitable(norm, x)
    exact = results(norm.double(), x.double(), slope.double(), plain=True)
    norm = norm.float()
    found, others = results(norm, x, slope, plain=False), results(norm, x, slope, plain=True)
    # The gradient by x is a difference of such terms; of two rows, say, nothing is left but their rounding.
    variance = x.double().movedim(1, 0).flatten(1).var(1, correction=0) if training else norm.running_var.double()
    by_channel = norm.weight.detach().double() / (variance + norm.eps).sqrt()
    terms = (slope.double() * by_channel.view(-1, *[1] * (x.dim() - 2))).norm()
    for number, (ours, pytorchs, true) in enumerate(zip(found, others, exact, strict=True)):
        assert ours.dtype == pytorchs.dtype
        assert ours.stride() == x.stride() or ours.dim() < 2
        size = true.double().norm() + 1e-6 * true.numel() ** 0.5 + (terms if number == 1 else 0)
        error, of_pytorch = ((values.double() - true.double()).norm() / size for values in (ours, pytorchs))
        assert error <= 1.5 * of_pytorch + (1e-5 if dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_do_not_vanish(dtype: torch.dtype, training: bool, value: float) -> None:
    x = activations((3, 4, 5, 5), dtype, 0)
    x[1, 2, 3, 3] = value
    norm = norm_of(x.shape, 0).train(training)
    with torch.no_grad():
        norm.weight.abs_()
        assert not torch.isfinite(norm_relu(norm, x)[:, 2]).all()


@pytest.mark.parametrize("what", ["layout", "float64", "threads", "no compiler", "no statistics", "instance norm"])
def test_everything_else_is_computed_by_pytorch(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, norm = activations((3, 4, 5, 5), torch.float32, 0), norm_of((3, 4, 5, 5), 0)
    if what == "layout":
        x = x.contiguous()
    elif what == "float64":
        x, norm = x.double(), norm.double()
    elif what == "threads":
        monkeypatch.setattr(module, "_MOST_THREADS", 0)
    elif what == "no compiler":
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        assert not module._is_suitable(norm, x)
    elif what == "no statistics":
        norm = nn.BatchNorm2d(4, track_running_stats=False)
    else:
        norm = nn.InstanceNorm2d(4)
    expected = torch.relu(copy.deepcopy(norm)(x))
    assert torch.equal(norm_relu(norm, x), expected)


def test_only_a_relu_behind_a_batch_norm_is_computed_with_it() -> None:
    torch.manual_seed(0)
    layers = [nn.BatchNorm2d(4), nn.Tanh(), nn.BatchNorm2d(4), nn.ReLU(), nn.ReLU(), nn.BatchNorm2d(4)]
    network, x = Layers(*layers), activations((3, 4, 5, 5), torch.float32, 0)
    assert torch.allclose(network(x), nn.Sequential.forward(copy.deepcopy(network), x), atol=1e-5)


@pytest.mark.parametrize("network", [NanoVideo(), NanoAudio(), TinyVideo(), TinyAudio()])
def test_networks_give_the_same_as_layer_by_layer(network: nn.Module) -> None:
    shape = (3, 3, 4, 40, 40) if isinstance(network, NanoVideo | TinyVideo) else (3, 1, 64, 99)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layout = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    network.to(memory_format=layout).train()
    x, other, seen = x.contiguous(memory_format=layout), copy.deepcopy(network), []
    found = network(x)
    plain = other if isinstance(other, Layers) else nn.Sequential(*other.maps, other.mean)
    expected = nn.Sequential.forward(plain, x)
    assert torch.allclose(found, expected, atol=1e-4)
    for one, another in zip(network.buffers(), other.buffers(), strict=True):
        assert torch.allclose(one, another, rtol=1e-3, atol=1e-5)
    last = network[-2] if isinstance(network, Layers) else network.maps[-1]
    handle = last.register_forward_hook(lambda layer, given, out: seen.append(out))
    with torch.no_grad():
        mean = network.eval()(x)
    handle.remove()
    assert np.allclose(seen[0].flatten(2).mean(2), mean.flatten(1), atol=1e-5)
