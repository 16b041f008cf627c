"""The optimiser Muon: gradient descent with momentum and orthogonalised steps of convolutional filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the published iteration: steepest at zero
_ITERATIONS = 3
_RATE = 0.25  # of filters, as a multiple of the learning rate
_TINY = 1e-20
_MATRIX = 2  # dimensions; a parameter with more of them is filters


class Muon(torch.optim.SGD):
    """
    Stochastic gradient descent with momentum, in which the steps of convolutional filters are orthogonalised.

    The momentum of a layer's filters, a matrix (C_out, C_in * kernel), is replaced by a matrix near the closest one
    with orthogonal rows (or columns): directions with small gradients are learnt as fast as those with large ones.
    Filters keep their length, which a batch norm after them takes out again; the length of a step, relative to it, is a
    quarter of the learning rate. All other parameters are learnt by PyTorch's gradient descent.

    `torch.optim.Muon` takes matrices alone, and computes in bfloat16, which many processors have to imitate.

    Parameters
    ----------
    parameters : iterable of Parameter
        All parameters; those with three dimensions or more are filters.
    lr : float
        Learning rate.
    momentum : float
        Momentum of filters (Nesterov's) and of all other parameters.
    weight_decay : float
        Of all parameters but filters.
    fused : bool, optional
        PyTorch's implementation for all parameters but filters.

    References
    ----------
    Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Bernstein and Newhouse, Old optimizer,
    new norm: an anthology, 2024.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        fused: bool | None = None,
    ):
        kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in parameters:
            kinds[parameter.dim() > _MATRIX].append(parameter)
        groups = [{"params": kind, "filters": filters} for filters, kind in kinds.items() if kind]
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)

    @torch.no_grad()
    def step_filters(self, parameters: Iterable[nn.Parameter]) -> None:
        """
        Update the filters among some parameters by their gradients, and clear these gradients.

        Several threads may each do that for their own parameters, before one of them calls `step` for the others.
        """
        for group in self.param_groups:
            for parameter in parameters if group["filters"] else ():
                if parameter.dim() > _MATRIX and parameter.grad is not None:
                    _change_filters(parameter, self.state[parameter], group)
                    parameter.grad = None  # PyTorch's implementation leaves parameters without gradients alone

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters by their gradients, and clear the gradients of the filters."""
        for group in self.param_groups:
            self.step_filters(group["params"])
        super().step(closure)


def _change_filters(parameter: nn.Parameter, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Update the filters of one layer by an orthogonalised step, and scale them to their length of before."""
    gradient, momentum = parameter.grad, group["momentum"]
    assert gradient is not None
    if state.get("momentum_buffer") is None:
        state["momentum_buffer"] = torch.zeros_like(parameter)
    mean = state["momentum_buffer"].mul_(momentum).add_(gradient)
    filters = parameter.detach().movedim(1, -1)  # in the order of channels-last memory, which saves copies
    step = orthogonalised(gradient.add(mean, alpha=momentum).movedim(1, -1).flatten(1))
    length = torch.linalg.vector_norm(filters)
    length = length.where(length > 0, 1.0)
    factor = length * (group["lr"] * _RATE / min(step.shape) ** 0.5)
    changed = filters - factor * step.view_as(filters)
    filters.copy_(changed * (length / torch.linalg.vector_norm(changed).clamp_min(_TINY)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """
    Return a matrix near the closest one with orthonormal rows, or columns if it has fewer of them.

    Three steps of a Newton-Schulz iteration of degree five bring all singular values above a fiftieth of the matrix's
    length (Frobenius norm) to between 0.68 and 1.21; smaller ones grow by a factor of up to 41. A matrix of zeros stays
    as it is.
    """
    wide = len(matrix) <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / torch.linalg.vector_norm(x).clamp_min(_TINY)
    # All steps multiply by polynomials of x @ x.T, which is smaller than x.
    square = x @ x.T
    product: Tensor | None = None
    for remaining in reversed(range(_ITERATIONS)):
        factor = _polynomial(square)
        product = factor if product is None else factor @ product
        if remaining:
            square = factor @ square @ factor
    x = x if product is None else product @ x
    return x if wide else x.T


def _polynomial(square: Tensor) -> Tensor:
    """Return ``a I + b S + c S @ S`` of a symmetric matrix S."""
    a, b, c = _COEFFICIENTS
    result = torch.addmm(square, square, square, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result
