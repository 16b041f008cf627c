"""Training steps recorded as CUDA graphs: the GPU gets all kernels of a step at once, not one after the other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from backbones.learner.checkpoint import first_line
from backbones.learner.settings import BackboneSettings
from backbones.learner.side_by_side import ModalityStreams
from backbones.learner.training_step import StepInputs, TrainingStep
from selavi_ref.runs.reporter import Reporter

_EAGER_STEPS = 3  # of each shape, in which cuDNN chooses its algorithms, before one is recorded
_MOST_GRAPHS = 4  # shapes that are recorded; each holds the memory of a step


def can_be_recorded(settings: BackboneSettings) -> bool:
    """Return whether all of a step can be recorded: jitter and blur read numbers back from the GPU."""
    return not (settings.augment.jitter or settings.augment.blur or settings.concatenate or settings.compile)


@dataclass(frozen=True)
class _Graph:
    """A recorded step, the tensors that it reads, and the loss that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: StepInputs
    loss: Tensor


class StepGraphs:
    """
    Takes training steps on a GPU, which are recorded (captured) once their shapes have occurred a few times.

    The kernels of a small network take a fraction of the time in which Python can start them.

    Parameters
    ----------
    step : TrainingStep
        Takes a step; its optimiser accepts a learning rate that is a tensor.
    device : device
        The GPU.
    reporter : Reporter
        Receives a warning if steps cannot be recorded.
    """

    def __init__(self, step: TrainingStep, device: torch.device, reporter: Reporter):
        self._step = step
        self._streams = ModalityStreams(step.modalities, device)
        self._device = device
        self._reporter = reporter
        self._stream = torch.cuda.Stream(device)
        self._rate = torch.zeros((), device=device)
        self._set_rate: float | None = None
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._works = True

    def forget(self) -> None:
        """Record anew: tensors of the optimiser have been replaced."""
        self._graphs.clear()
        self._seen.clear()

    def __call__(self, inputs: StepInputs, learning_rate: float) -> Tensor:
        """Take a step on inputs of the CPU, and return its loss."""
        shape = inputs.shape
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            if shape not in self._graphs:
                due = self._works and self._seen[shape] >= _EAGER_STEPS and len(self._graphs) < _MOST_GRAPHS
                if due:
                    self._record(shape, inputs.to(self._device), learning_rate)
                self._seen[shape] += 1
            if shape in self._graphs:
                loss = self._replay(self._graphs[shape], inputs, learning_rate)
            else:
                loss = self._step(inputs.to(self._device), learning_rate)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return loss

    def _replay(self, recorded: _Graph, inputs: StepInputs, learning_rate: float) -> Tensor:
        for held, given in zip(recorded.inputs.tensors, inputs.tensors, strict=True):
            held.copy_(given, non_blocking=True)
        if learning_rate != self._set_rate:
            self._rate.fill_(learning_rate)
            self._set_rate = learning_rate
        recorded.graph.replay()
        return recorded.loss

    def _record(self, shape: tuple[int, ...], inputs: StepInputs, learning_rate: float) -> None:
        """Record a step without taking it."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on to copy clips to page-locked memory.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                loss = self._step(inputs, self._rate, both=self._streams)
            self._graphs[shape] = _Graph(graph, inputs, loss)
        except RuntimeError as error:
            self._works = False
            self._reporter.warn(f"steps are not recorded as CUDA graphs, and take longer: {first_line(error)}")
        finally:
            for group in self._step.optimizer.param_groups:
                group["lr"] = learning_rate
