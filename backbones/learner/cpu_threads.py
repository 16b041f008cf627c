"""The number of threads of a training on a CPU: fewer while other programs use the same cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from backbones.distributed.processes import local_size
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import Reporter

FIXED_BY = "OMP_NUM_THREADS"  # environment variable of a user's own number
_WITH_GPU = 4  # threads when a GPU is used: idle ones would spin on the cores that launch its kernels
_SMALL_SHARE = 0.75  # threads that wait for each other count as busy, so that an idle machine gives nearly 1
_GAIN = 0.95  # step time that fewer or more threads must reach, relative to the one before, to be kept
_SLOW = 3.0  # relative step time at which a trial ends at once
_WINDOW, _TRIAL = 5.0, 1.0  # seconds of steps that are measured before something is changed, and in a trial
_TRIAL_STEPS = 4
_RETRY = 300.0  # seconds from a trial to the next one


def limit_threads(device: torch.device) -> int:
    """Let PyTorch compute with no more threads than this process has cores, and return their number."""
    # OpenMP does not know the quotas of containers, nor the other processes of the run.
    cores = _WITH_GPU if device.type == "cuda" else max(1, usable_cores() // local_size())
    threads = min(cores, torch.get_num_threads(), usable_cores())
    torch.set_num_threads(threads)
    return threads


class AdaptiveThreads:
    """
    Chooses the number of threads by the time of training steps.

    Each operation ends when its slowest thread has ended. Where other programs use the same cores, a thread that has to
    wait for a core holds up all others, and a step can take forty times as long; with fewer threads it loses little.
    So fewer are tried when the threads get a small share of their cores, and kept if steps become faster; twice as many
    are tried again after five minutes.

    Parameters
    ----------
    threads : int
        Threads at the beginning, and at most.
    reporter : Reporter
        Receives what was chosen.
    set_threads : callable
        Sets the number of threads.
    wall, cpu : callable
        Clocks: seconds that passed, and those that all threads of this process computed.
    """

    def __init__(
        self,
        threads: int,
        reporter: Reporter,
        set_threads: Callable[[int], None] = torch.set_num_threads,
        wall: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
    ):
        self.threads = threads
        self._most = threads
        self._reporter = reporter
        self._set_threads = set_threads
        self._wall, self._cpu = wall, cpu
        self._times: dict[int, float] = {}  # step time of each number of threads in a trial; empty between trials
        self._to_try: list[int] = []
        self._last_trial = -_RETRY
        self._restart()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measure one training step, and change the number of threads after it if that helps."""
        if self._most == 1:
            yield
            return
        wall, cpu = self._wall(), self._cpu()
        yield
        wall, cpu = self._wall() - wall, self._cpu() - cpu
        self._warm_up -= 1
        if self._times and wall > _SLOW * next(iter(self._times.values())):
            self._end_trial()
        elif self._warm_up < 0:
            self._steps += 1
            self._passed += wall
            self._computed += cpu
            self._judge()

    def _restart(self) -> None:
        """Begin a new measurement; its first step prepares memory and kernels."""
        self._warm_up = 1
        self._steps, self._passed, self._computed = 0, 0.0, 0.0

    def _judge(self) -> None:
        step_time, waited = self._passed / self._steps, self._wall() - self._last_trial
        if self._times:
            if self._passed >= _TRIAL and self._steps >= _TRIAL_STEPS:
                self._times[self.threads] = step_time
                self._try_next()
        elif self._passed >= _WINDOW:
            share = self._computed / (self._passed * self.threads)
            if waited < _RETRY:
                self._restart()
                return
            if share < _SMALL_SHARE and self.threads > 1:
                self._to_try = [self.threads >> halvings for halvings in range(1, self.threads.bit_length())]
            elif self.threads < self._most:
                self._to_try = [min(2 * self.threads, self._most)]
            else:
                self._restart()
                return
            self._times[self.threads] = step_time
            self._try_next()

    def _try_next(self) -> None:
        if self._to_try:
            self._set(self._to_try.pop(0))
        else:
            self._end_trial()

    def _end_trial(self) -> None:
        """Keep the number of threads with the fastest steps; the one before the trial unless another gains enough."""
        before, time_before = next(iter(self._times.items()))
        best = min(self._times, key=lambda threads: self._times[threads])
        if self._times[best] > _GAIN * time_before:
            best = before
        if best < before:
            self._reporter.warn(
                f"learning goes on with {best} of {self._most} threads, a step in {self._times[best]:.2g} s instead of "
                f"{time_before:.2g}: other programs use the processor, or there is too little work for more; "
                f"{FIXED_BY} fixes their number"
            )
        self._times, self._to_try, self._last_trial = {}, [], self._wall()
        self._set(best)

    def _set(self, threads: int) -> None:
        self.threads = threads
        self._set_threads(threads)
        self._restart()


def is_fixed() -> bool:
    """Return whether the user, or the launcher of several processes, has fixed the number of threads."""
    return FIXED_BY in os.environ
