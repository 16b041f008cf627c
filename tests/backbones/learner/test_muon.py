"""Steps of the optimiser Muon: orthogonalised for filters, PyTorch's gradient descent for everything else."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from backbones.learner.muon import Muon, orthogonalised
from backbones.learner.optimizer import load_optimizer


def matrix(rows: int, columns: int, seed: int, falling: float = 1.0) -> torch.Tensor:
    """Return a random matrix; each row is shorter than the one before."""
    scale = np.logspace(0, -falling, rows)[:, None]
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)) * scale).float()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.floats(0, 2), st.sampled_from([1e-12, 1.0, 1e12]))
@settings(max_examples=60, deadline=None)
def test_singular_vectors_stay_and_singular_values_come_near_one(rows, columns, seed, falling, scale):
    given = matrix(rows, columns, seed, falling)
    left, values, right = np.linalg.svd(given.double().numpy(), full_matrices=False)
    values = values / np.linalg.norm(values)
    large = values > 0.02
    for _ in range(3):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    found = orthogonalised(given * scale).numpy()
    assert np.allclose(found, (left * values) @ right, atol=1e-4)
    assert (values[large] > 0.68).all()
    assert (values < 1.21).all()


def test_a_matrix_of_zeros_stays_as_it_is():
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


def networks(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 70, 1),
        nn.Flatten(),
        nn.Linear(630, 3),
    )
    return layers.to(memory_format=memory_format)


def learn(layers: nn.Module, optimizer: torch.optim.Optimizer, n: int = 1, first: int = 0) -> list[float]:
    losses = []
    for step in range(first, first + n):
        clips = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 2, 5, 5)).astype(np.float32))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(layers(clips), torch.arange(8) % 3)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def muon(layers: nn.Module, **options: float) -> Muon:
    return Muon(layers.parameters(), **{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, **options})


def filters(layers: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layers.parameters() if parameter.dim() > 2]


def test_filters_keep_their_length_and_turn_by_a_quarter_of_the_learning_rate():
    layers = networks()
    before = [parameter.detach().clone() for parameter in filters(layers)]
    learn(layers, muon(layers))
    for old, new in zip(before, filters(layers), strict=True):
        assert new.norm().item() == pytest.approx(old.norm().item(), rel=1e-5)
        assert 0.015 < ((new - old).norm() / old.norm()).item() < 0.031


def test_all_other_parameters_are_learnt_by_gradient_descent():
    ours, theirs = networks(), networks()
    learn(ours, muon(ours, fused=True))
    learn(theirs, torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01))
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(own, other, atol=1e-6) == (own.dim() <= 2)


def test_steps_do_not_depend_on_the_memory_format_or_the_scale_of_the_loss():
    layers = [networks(), networks(torch.channels_last), networks()]
    for network in layers:
        optimizer = muon(network)
        learn(network, optimizer, 3)
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    parameter = nn.Parameter(matrix(6, 20, 0).view(6, 5, 2, 2))
    scaled = copy.deepcopy(parameter)
    for weights, factor in ((parameter, 1.0), (scaled, 1e-6)):
        optimizer = Muon([weights], lr=0.1, momentum=0.9, weight_decay=0.0)
        for step in range(3):
            weights.grad = matrix(6, 20, 1 + step).view(6, 5, 2, 2) * factor
            optimizer.step()
    assert torch.allclose(parameter, scaled, atol=1e-5)


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_filters_of_zeros_and_gradients_of_zeros_stay_finite(gradient):
    for weights in (torch.zeros(4, 3, 3), matrix(4, 9, 0).view(4, 3, 3)):
        parameter = nn.Parameter(weights.clone())
        optimizer = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.0)
        parameter.grad = torch.full_like(weights, gradient)
        optimizer.step()
        assert torch.isfinite(parameter).all()
        assert torch.allclose(parameter, weights) == (gradient == 0)


def test_learning_goes_on_from_a_saved_state():
    layers = networks()
    optimizer = muon(layers)
    learn(layers, optimizer, 3)
    copied = copy.deepcopy(layers)
    other = muon(copied)
    load_optimizer(other, copy.deepcopy(optimizer.state_dict()))
    assert learn(copied, other, 3, first=3) == learn(layers, optimizer, 3, first=3)


def test_the_state_of_gradient_descent_is_refused():
    layers = networks()
    descent = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9)
    learn(layers, descent)
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_optimizer(muon(layers), descent.state_dict())


def test_parameters_without_gradients_stay_as_they_are():
    layers = networks()
    before = [parameter.detach().clone() for parameter in layers.parameters()]
    muon(layers).step()
    assert all(torch.equal(*pair) for pair in zip(before, layers.parameters(), strict=True))


def test_filters_may_be_changed_before_all_other_parameters():
    once, twice = networks(), networks()
    for layers in (once, twice):
        nn.functional.cross_entropy(layers(torch.ones(4, 2, 5, 5)), torch.arange(4) % 3).backward()
    muon(once).step()
    optimizer = muon(twice)
    optimizer.step_filters(twice[0].parameters())
    optimizer.step_filters(list(twice[3].parameters()))
    assert [parameter.grad is None for parameter in twice.parameters()] == [p.dim() > 2 for p in twice.parameters()]
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(once.parameters(), twice.parameters(), strict=True))


def test_it_learns():
    layers = networks()
    optimizer = muon(layers, lr=0.02)
    losses = [learn(layers, optimizer)[0] for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]
