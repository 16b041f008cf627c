"""Trainings of several processes, here threads: the result of one process, and errors of all."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.errors import ElsewhereError, InputError, StopRequest
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.runs.processes import gather_lines, raise_together
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from tests.support.linear_backbone import (
    SETTINGS,
    start,
)
from tests.support.refusal import refused


class Threads:
    """Processes of one run, as threads that add up what they are given."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.given = [None] * size

    def run(self, task):
        results = [None] * self.size

        def one(rank):
            try:
                results[rank] = task(Threads.Exchange(self, rank))
            except BaseException as error:
                results[rank] = error
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, threading.BrokenBarrierError):
                raise result
        return results

    class Exchange:
        def __init__(self, threads, rank):
            self.threads, self.rank, self.size = threads, rank, threads.size

        def _everyones(self, value):
            self.threads.given[self.rank] = value
            self.threads.barrier.wait()
            values = list(self.threads.given)
            self.threads.barrier.wait()
            return values

        def all_sum(self, numbers):
            return np.sum(self._everyones(np.array(numbers, np.float64)), 0)

        def gather(self, rows):
            return np.concatenate(self._everyones(rows))


@pytest.mark.parametrize(
    ("size", "n", "settings", "clusters"),
    [
        (2, 300, SETTINGS, (4, 4, 4)),
        (3, 301, replace(SETTINGS, groups=2, sizes=ClusterSizes("zipf")), (4, 4, 4)),
        (
            4,
            303,
            replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60),
            (4, 20, 20),
        ),
    ],
)
def test_several_processes_end_where_one_does(tmp_path, size, n, settings, clusters):
    (tmp_path / "one").mkdir()
    settings = replace(settings, batch_size=32 * size)
    losses = {1: [], size: []}
    whole, _ = start(tmp_path / "one", settings, clusters, n=n)
    whole.run(lambda now: losses[1].append(now.loss))
    whole.finish()

    def task(exchange):
        training, _ = start(tmp_path, replace(settings, batch_size=32), clusters, exchange=exchange, n=n)
        training.run(lambda now: losses[size].append(now.loss) if exchange.rank == 0 else None)
        training.finish()
        return training

    found = Threads(size).run(task)
    assert np.allclose(losses[1], losses[size], rtol=1e-6)
    for training in found:
        assert np.array_equal(training.labels, whole.labels)
        assert training.settle_from == whole.settle_from
        seen = training.backbone.seen[: whole.per_epoch]
        training.first_epoch = np.concatenate(seen)
    assert sorted(np.concatenate([t.first_epoch for t in found])) == list(range(n))


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    first, classes = start(tmp_path)
    with pytest.raises(StopRequest):
        first.run(lambda now: first.request_stop() if now.step == 43 else None)
    first.pseudo_labels.store.close()

    def task(exchange):
        training, _ = start(tmp_path, exchange=exchange)
        assert training.restore()
        assert training.step == first.step * training.per_epoch // first.per_epoch
        training.run()
        training.finish()
        training.pseudo_labels.store.close()
        # Its steps are fewer than those of the checkpoints before, but its own are the newest.
        again, _ = start(tmp_path, exchange=exchange)
        assert again.restore()
        assert again.finished
        return training.labels

    labels, again = Threads(2).run(task)
    assert np.array_equal(labels, again)
    assert normalized_mutual_info_score(classes, labels[:, 0]) > 0.5


def test_what_one_process_cannot_do_no_process_goes_on_with():
    def task(exchange):
        def one_fails():
            with raise_together(exchange):
                if exchange.rank == 1:
                    raise InputError("seven")

        with refused(InputError if exchange.rank == 1 else ElsewhereError):
            one_fails()
        return gather_lines([f"line {n} of {exchange.rank} \udcff" for n in range(exchange.rank)], exchange)

    lines = Threads(3).run(task)
    assert lines[0] == lines[1] == lines[2] == ["line 0 of 1 \udcff", "line 0 of 2 \udcff", "line 1 of 2 \udcff"]


def test_too_few_videos_for_so_many_processes_are_refused(tmp_path):
    with refused(option="processes", value=3):
        Threads(3).run(lambda exchange: start(tmp_path, exchange=exchange, clusters=(2,), n=5))
