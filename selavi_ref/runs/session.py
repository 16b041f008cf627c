"""A training session: stop signals, lock, log, TensorBoard events and progress bar around a training of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.run_lock import RunLock, locked
from selavi_ref.runs.signals import Stops, stoppable
from selavi_ref.runs.tensorboard import Events

Result = TypeVar("Result", covariant=True)


class StepProgress(Protocol):
    """State of a training after a step, as its callback receives it."""

    @property
    def total(self) -> int:
        """Number of steps of the whole training, as far as it is known."""

    @property
    def summary(self) -> str:
        """Short text beside the progress bar, such as epoch and loss."""


class Trainable(Protocol[Result]):
    """A training that can be stopped after any step and resumed from its newest checkpoint."""

    @property
    def step(self) -> int:
        """Steps taken."""

    @property
    def total_steps(self) -> int:
        """Steps of the whole training, as far as they are known."""

    def restore(self) -> bool:
        """Load the newest checkpoint that is not damaged; return False if there is none."""

    def covers(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record of the log belongs to steps taken, so that it will not be logged again."""

    def request_stop(self) -> None:
        """Ask the training to save its state and to raise a `StopRequest`; called by a signal handler."""

    def run(self, on_step: Callable[[StepProgress], None]) -> Result:
        """Train to the end; `on_step` is called after each step."""


@dataclass
class TrainingSession:
    """
    What every training of a run folder shares; made by `training_session`.

    Parameters
    ----------
    run : Run
        The run folder.
    stops : Stops
        Handler of the stop signals.
    events : Events
        TensorBoard events of the log.
    exchange : Exchange
        The processes of the run; only the first one logs.
    reporter : Reporter
        Receives progress.
    lock : RunLock, optional
        The lock of the run folder, which the first process holds.
    """

    run: Run
    stops: Stops
    events: Events
    exchange: Exchange
    reporter: Reporter
    lock: RunLock | None = None

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the run's log and to its TensorBoard events."""
        if self.exchange.rank == 0:
            self.run.log(record)
            self.events.add(record)

    def restore(self, training: Trainable[Any]) -> bool:
        """Resume a training from its checkpoints, and drop records of steps that it will take again."""
        restored = training.restore()
        if self.exchange.rank == 0:
            self.run.keep_records(training.covers)
            self.events.restart(self.run.records)
        return restored

    def learn(self, training: Trainable[Result], action: str = "learning") -> Result:
        """
        Run a training to its end behind a progress bar; a stop signal saves its state first.

        Raises
        ------
        StopRequest
            If the system sent SIGTERM or SIGUSR1.
        RunInUseError
            If another job has taken the run over, as after this one was suspended for long.
        """
        self.stops.on_stop = training.request_stop
        with self.reporter.bar(training.total_steps, action, "step", training.step) as bar:

            def show(progress: StepProgress) -> None:
                if self.lock is not None:
                    self.lock.verify()
                bar.total = progress.total
                bar.note(progress.summary)
                bar.update(1)

            result = training.run(show)
        self.stops.on_stop = None
        return result


@contextmanager
def training_session(
    run: Run,
    *,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
    tensorboard: bool = True,
) -> Iterator[TrainingSession]:
    """
    Handle stop signals, hold the lock of a run folder and keep its log while the block runs.

    Use it as ``with training_session(run) as session``: create a training that logs to ``session.log``, then call
    ``session.restore(training)`` and ``session.learn(training)``.

    Parameters
    ----------
    run : Run
        The run folder.
    exchange : Exchange
        The processes of the run; only the first one logs and shows progress.
    reporter : Reporter
        Receives progress and warnings.
    tensorboard : bool
        Whether the log is also written as TensorBoard events.

    Raises
    ------
    StopRequest
        If the system sent SIGTERM or SIGUSR1.
    RunInUseError
        If another job writes into the run folder.
    """
    first = exchange.rank == 0
    folder = run.events_folder if first and tensorboard else None
    with stoppable() as stops, locked(run.folder, exchange) as lock, Events(folder) as events:
        yield TrainingSession(run, stops, events, exchange, reporter if first else SILENT, lock)
