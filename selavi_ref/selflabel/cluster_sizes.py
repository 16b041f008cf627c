"""Prescribed sizes of clusters; imports no NumPy, so that the help of commands appears at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selavi_ref.runs.setting_fields import check_settings, setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClusterSizes:
    """Prescribed sizes of the clusters; the help of each field describes it."""

    distribution: str = setting(
        "gaussian",
        help="Distribution of cluster sizes: uniform, gaussian, zipf, or a file of sizes",
        option="distribution",
    )
    spread: float = setting(
        0.02,
        help="Standard deviation of gaussian sizes, relative to the mean size",
        minimum=0,
        option="spread",
        published=0.1,
    )
    given: tuple[float, ...] = setting(
        (), help="Sizes of K clusters, in any unit; empty for the distributions with a name"
    )
    per_head: bool = setting(True, help="Draw sizes for each head anew, not once for all", option="size-per-head")
    redrawn: bool = setting(
        False, help="Draw sizes anew for each self-labelling, not once for the run", option="redraw-sizes"
    )
    matched: bool = setting(
        True,
        help="Give the largest size to the cluster with the largest predicted mass, not keep the order of the draw",
        option="match-sizes",
    )
    # In training, sizes are met in any case until over-clustering starts: networks that have learnt nothing yet would
    # rather put all videos into one cluster.
    marginal_penalty: float = setting(
        0.0,
        help="Price of missing the sizes (marginal_penalty of selavi_ref.transport.assign) from over-clustering on: "
        "10 bends them, 1000 hardly; 0: they are met exactly",
        minimum=0,
        option="soft-sizes",
        default_text="10, or 0 with --distribution",
        published=0.0,
    )

    def __post_init__(self) -> None:
        check_settings(self, "training.sizes.")

    def draw(self, K: int, N: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the sizes of K clusters of N videos as a marginal, float64, shape (K,)."""
        from selavi_ref.transport import marginals

        if self.given:
            return marginals.given(self.given, K)
        if self.distribution == "gaussian":
            return marginals.gaussian(K, N, self.spread, rng)
        return marginals.make(self.distribution, K, N, rng)
