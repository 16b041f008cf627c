"""Run the video and the audio network at the same time: on a CPU in two threads, on a GPU on two streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


class ModalityThreads:
    """
    Computes a function of each of two modalities at the same time, each with half of PyTorch's threads.

    The operations of small networks are too short to be divided among threads that wait for each other at the end of
    each. Two networks that need about the same time, side by side, wait for each other once.

    Parameters
    ----------
    side_by_side : bool
        Whether the functions may run at the same time; if not, or with a single thread, they run one after the other.
    """

    def __init__(self, side_by_side: bool):
        self._second = ThreadPoolExecutor(1, thread_name_prefix="modality") if side_by_side else None

    def map(self, function: Callable[[str], T], modalities: Sequence[str]) -> dict[str, T]:
        """
        Return the result of a function for each modality, computed with or without gradients as in the calling thread.

        An error of one is raised when both have ended.
        """
        threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
        if self._second is None or threads < 2 or len(modalities) != 2:
            return {modality: function(modality) for modality in modalities}
        first, second = modalities

        def compute() -> T:
            torch.set_num_threads(threads // 2)  # it holds for the thread that calls it
            with torch.set_grad_enabled(grad):
                return function(second)

        torch.set_num_threads(threads - threads // 2)
        later = self._second.submit(compute)
        try:
            result = function(first)
        finally:  # after Ctrl-C, too: weights must not change while they are saved
            wait([later])
            torch.set_num_threads(threads)
        return {first: result, second: later.result()}


class ModalityStreams:
    """
    Computes a function of each modality on a stream of its own: recorded steps compute both at the same time.

    Parameters
    ----------
    modalities : sequence of str
        The modalities.
    device : device
        The GPU.
    """

    def __init__(self, modalities: Sequence[str], device: torch.device):
        self._device = device
        self._streams = {modality: torch.cuda.Stream(device) for modality in modalities}

    def map(self, function: Callable[[str], T], modalities: Sequence[str]) -> dict[str, T]:
        """Return the result of a function for each modality; later work of the current stream waits for all."""
        current, results = torch.cuda.current_stream(self._device), {}
        for modality in modalities:
            stream = self._streams[modality]
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                results[modality] = function(modality)
        for modality in modalities:
            current.wait_stream(self._streams[modality])
        return results
