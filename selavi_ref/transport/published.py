"""The self-labelling of the published code, step by step, so that its results can be compared with ours.

What differs from `assign`, all of it on purpose: the plan is ``exp(log_prob) ** strength`` in float64, which may
underflow to rows and columns of zeros, and then to NaN, which ends the iteration; the marginal is proportional to *one
over* the sizes, in the order in which they are given; and the error is computed after iterations 1, 11, 21, ... as
``sum_i |beta_i / beta_new_i - 1|``, and 0.1 is enough. Source: the public code of Asano et al. (2020), *Labelling
unlabelled videos from scratch*.

Results are equal up to the rounding of float64 sums and powers, which decides between equal entries, and in which
iteration an underflow becomes NaN: of 96 problems with logits of standard deviation 1 to 60 all labels were equal, and
in one of the 29 that end in NaN the number of iterations was not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.transport.arguments import Vector, refuse_entry
from selavi_ref.transport.plan_pass import Rows
from selavi_ref.transport.solve import Solution

MOST_ITERATIONS = 2000
_ENOUGH = 0.1  # change of the row scalings at which the published code stops
_EVERY = 10  # iterations


def repeat_published(log_prob: NDArray[Any], sizes: Vector, strength: float, most: int = MOST_ITERATIONS) -> Solution:
    """Solve by the published algorithm.

    Parameters
    ----------
    log_prob : (N, K) float32 or float64
        Sum of the log-probabilities of the modalities.
    sizes : (K,) float64
        Drawn sizes; the algorithm uses their inverses, and leaves clusters of size zero empty.
    strength : float
        lambda / 2.
    most : int
        Iterations at most.

    Returns
    -------
    Solution
        Potentials are the logarithms of the column scalings, the error is the L1 distance of the column sums from the
        inverted sizes, ``n_passes`` counts products with the plan, and ``converged`` says whether the rule was met.
        Once an underflow has led to NaN, the labels are those of the first NaN of each row, as in the original, and
        ``converged`` is false.
    """
    N, K = log_prob.shape
    finite = np.isfinite(log_prob)
    if not finite.all():
        row, column = divmod(int(np.argmin(finite)), K)
        refuse_entry(row, column, float(log_prob[row, column]))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        marginal = np.where(sizes > 0, 1.0 / sizes, 0.0)
        marginal /= marginal.sum()
        plan = np.exp(log_prob.astype(np.float64)) ** strength
        beta = np.full(N, 1.0 / N)
        alpha = np.ones_like(marginal)
        error, iteration = np.inf, 0
        while error > _ENOUGH and iteration < most:  # NaN ends it too
            alpha = marginal / (beta @ plan)
            new_beta = (1.0 / N) / (plan @ alpha)
            if iteration % _EVERY == 0:
                error = float(np.abs(beta / new_beta - 1.0).sum())
            beta = new_beta
            iteration += 1
        rows = plan @ alpha
        plan *= beta[:, None]
        plan *= alpha
        labels = plan.argmax(1).astype(np.int32)  # where entries are NaN, the first of them
        mass = plan.sum(0)
        confidence = (plan[np.arange(N), labels] * N).astype(np.float32)
        potentials, logsumexp = np.log(alpha), np.log(rows)
        score = float(log_prob[np.arange(N), labels].mean(dtype=np.float64))
        value = float(marginal[marginal > 0] @ potentials[marginal > 0] - logsumexp.mean())
    plan_rows = Rows(labels, confidence, logsumexp, mass, float(logsumexp.mean()), score)
    return Solution(potentials, plan_rows, value, float(np.abs(mass - marginal).sum()), 2 * iteration, error <= _ENOUGH)
