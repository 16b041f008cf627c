"""The optimiser of the networks, and its state from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from backbones.learner.muon import Muon
from backbones.learner.settings import BackboneSettings

_IMPLEMENTATIONS = ("foreach", "fused")  # options that do not change the numbers


def make_optimizer(parameters: Iterable[nn.Parameter], settings: BackboneSettings, *, fused: bool) -> torch.optim.SGD:
    """
    Return the optimiser of some settings; its learning rate is set in each step.

    A fused one computes the same numbers on a CPU in half of the time, and takes a rate that is a tensor on a GPU.
    """
    kind = Muon if settings.optimizer == "muon" else torch.optim.SGD
    return kind(
        parameters,
        lr=0.0,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=fused or None,
    )


@torch.no_grad()
def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """
    Begin the momentum of parameters that get their first gradient after others have had theirs, at zero.

    Such are those of a network for which the first batches had no clip; PyTorch's fused optimiser does not allow for
    them.
    """
    for group in optimizer.param_groups:
        learning = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [p for p in learning if optimizer.state.get(p, {}).get("momentum_buffer") is None]
        if group["momentum"] and len(late) < len(learning):
            for parameter in late:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """
    Load the state of an optimiser, whose options and tensors must be like those of its parameters.

    Which of PyTorch's implementations computes it depends on the machine, and stays as it is.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If they are not.
    """
    before = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for old, new in zip(before, optimizer.param_groups, strict=True):
        new.update({name: old[name] for name in _IMPLEMENTATIONS})
        for name, value in old.items():
            number = isinstance(value, float) and isinstance(new[name], (int, float))
            if name != "params" and not number and not isinstance(new[name], type(value)):
                raise TypeError(f"the optimizer's {name} is {new[name]!r:.40}")
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value is not None and (not isinstance(value, torch.Tensor) or value.shape not in ((), parameter.shape)):
                raise ValueError(f"the optimizer's {name} is of another shape")
