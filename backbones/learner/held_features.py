"""Features of a self-labelling, held on the device of the networks, and the heads' predictions for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.networks.model import SelaviModel

_MAX_BYTES = 1 << 28  # of features, and of log-probabilities, that are held in main memory
_GPU_BYTES, _GPU_PART = 2 << 30, 0.4  # the same on a GPU, and at most a part of its free memory
_ON_GPU = 2_000_000  # numbers from which a GPU solves sooner than a CPU: estimated from the passes in sinkhorn-gpu.md


class HeldFeatures:
    """
    Holds the features of all videos of this process, if they fit in memory.

    Parameters
    ----------
    device : device
        Where they are held.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._features: dict[str, Tensor] = {}

    def prepare(self, n_videos: int, widths: Mapping[str, int]) -> None:
        """Make room for the features of N videos, all of which are to be `put` anew."""
        if {space: tuple(held.shape) for space, held in self._features.items()} == {
            space: (n_videos, width) for space, width in widths.items()
        }:
            return
        self._features = {}
        if self._fits(n_videos * sum(widths.values())):
            self._features = {
                space: torch.empty((n_videos, width), device=self._device) for space, width in widths.items()
            }

    def put(self, rows: slice, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Hold the features of some videos; nothing happens if there is no room."""
        for space, held in self._features.items():
            held[rows] = torch.from_numpy(features[space]).to(self._device)

    @torch.no_grad()
    def joint_log_prob(
        self,
        model: SelaviModel,
        head: int,
        present: Mapping[str, NDArray[np.bool_]],
        blocks: Sequence[slice],
    ) -> NDArray[np.float32] | Tensor | None:
        """
        Return the log-probabilities of a head, added up over the feature spaces that each video has.

        Parameters
        ----------
        model : SelaviModel
            The networks.
        head : int
            Which head.
        present : dict of str to array
            Of each feature space to use: the videos that have it, bool, shape (N,).
        blocks : sequence of slice
            All rows in order, as many at a time as are computed together.

        Returns
        -------
        array, Tensor or None
            float32, shape (N, K); a tensor on the device if a GPU can solve the transport sooner; None if the features
            are not held, or the log-probabilities do not fit in memory.
        """
        n_videos, n_clusters = blocks[-1].stop, model.clusters[head]
        if not self._features or not self._fits(n_videos * n_clusters):
            return None
        joint = torch.zeros((n_videos, n_clusters), device=self._device)
        for space, has in present.items():
            absent = torch.from_numpy(~has)[:, None].to(self._device)
            module, features = model.head(space, head), self._features[space]
            for rows in blocks:
                joint[rows] += module(features[rows]).log_softmax(1).masked_fill_(absent[rows], 0.0)
        return joint if self._device.type == "cuda" and joint.numel() >= _ON_GPU else joint.cpu().numpy()

    def _fits(self, n_numbers: int) -> bool:
        most = _MAX_BYTES
        if self._device.type == "cuda":
            most = min(_GPU_BYTES, int(_GPU_PART * torch.cuda.mem_get_info(self._device)[0]))
        return 4 * n_numbers <= most
