"""A training uses fewer threads while other programs use the processor, and all of them again afterwards."""

import pytest
import torch

from backbones.learner.cpu_threads import AdaptiveThreads, limit_threads
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import Reporter


class Warnings(Reporter):
    """Keeps the warnings it gets."""

    def __init__(self):
        self.texts = []

    def warn(self, message):
        self.texts.append(message)


class Machine:
    """Clocks of a machine with some cores; `busy` of them are taken by other programs."""

    def __init__(self, cores, busy=0):
        self.cores, self.busy = cores, busy
        self.passed, self.computed = 0.0, 0.0
        self.reporter = Warnings()
        self.used = [cores]
        self.threads = AdaptiveThreads(
            cores, self.reporter, self.used.append, lambda: self.passed, lambda: self.computed
        )

    def learn(self, seconds):
        """Take steps: of 1 s / threads while all threads have a core of their own, and of 10 s otherwise."""
        until = self.passed + seconds
        while self.passed < until:
            with self.threads.step():
                alone = self.threads.threads <= self.cores - self.busy
                taken = 1 / self.threads.threads if alone else 10.0
                self.passed += taken
                self.computed += taken * self.threads.threads * (0.9 if alone else 0.4)
            self.passed += 0.01


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_an_idle_machine_keeps_all_threads(cores):
    machine = Machine(cores)
    machine.learn(1000)
    assert set(machine.used) == {cores}
    assert machine.threads.threads == cores
    assert not machine.reporter.texts


@pytest.mark.parametrize(("cores", "busy", "expected"), [(2, 1, 1), (8, 1, 4), (8, 5, 2), (8, 7, 1), (3, 2, 1)])
def test_a_busy_machine_gets_as_few_threads_as_have_a_core(cores, busy, expected):
    machine = Machine(cores, busy)
    machine.learn(250)
    assert machine.threads.threads == expected
    assert machine.reporter.texts


def test_all_threads_come_back_with_the_cores():
    machine = Machine(4, busy=3)
    machine.learn(200)
    assert machine.threads.threads == 1
    machine.busy = 0
    machine.learn(1000)
    assert machine.threads.threads == 4


def test_trying_more_threads_on_a_busy_machine_costs_little():
    machine = Machine(2, busy=1)
    machine.learn(100)
    before = len(machine.used)
    machine.learn(3000)
    assert machine.threads.threads == 1
    tried = (len(machine.used) - before) // 2  # each trial sets two numbers
    assert 1 <= tried <= 10  # of a step of 10 s each


def test_fewer_threads_that_are_no_faster_are_not_kept():
    machine = Machine(2)
    for _ in range(200):
        with machine.threads.step():
            machine.passed += 1.0
            machine.computed += 0.5  # threads that sleep while they wait, on an idle machine
    assert len(machine.used) <= 9  # at most four trials
    assert not machine.reporter.texts


def test_pytorch_has_no_more_threads_than_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores() + 3)
    try:
        assert limit_threads(torch.device("cpu")) == usable_cores() == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
