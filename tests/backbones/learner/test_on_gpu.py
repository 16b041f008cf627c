"""Learning on a GPU: a run goes on where it was saved, and processes with a GPU each do what one does."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.distributed.processes import local_device
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.errors import StopRequest
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.selflabel.training import Training
from selavi_ref.store import WorkingStore
from tests.backbones.distributed.test_several_processes import ENVIRONMENT, PROGRAM, assert_as_one, run, torchrun
from tests.support.small_training import CLASSES, collection

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
BOTH = pytest.mark.parametrize("precision", ["float32", "bfloat16"])


def test_a_process_that_torchrun_has_started_alone_on_its_machine_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert local_device("cuda") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert local_device("cuda") == torch.device("cuda", 0)  # `torch.cuda.set_device` refuses one without a number
    assert local_device("cpu") == torch.device("cpu")


def backbone(precision: str, **options: bool) -> TorchBackbone:
    settings = replace(BackboneSettings(), precision=precision, **options)
    return TorchBackbone(settings, (3, 3), collection(settings), device="cuda")


def learn(place: Path, precision: str, steps: int | None = None) -> tuple[Training, list[float]]:
    """Learn, from the last checkpoint on if there is one; ask to stop after some steps: the next is the last."""
    learner, losses = backbone(precision), []
    settings = TrainingSettings(epochs=12, batch_size=12, learning_rate=0.05, labellings=10, bn_warmup_batches=5)
    place.mkdir(exist_ok=True)
    names = [str(row) for row in range(learner.n_videos)]
    with WorkingStore.create(place / "working.h5", names, working_datasets(learner)) as store:
        training = Training(learner, settings, store, Checkpoints(place / "checkpoints"), lambda record: None)
        training.restore()
        with contextlib.suppress(StopRequest):
            training.run(lambda now: losses.append(now.loss) or (now.step == steps and training.request_stop()))
            training.finish()
    return training, losses


@NO_GPU
@BOTH
def test_a_run_on_a_gpu_learns_what_there_is_and_goes_on_where_it_was_stopped(tmp_path: Path, precision: str) -> None:
    whole, losses = learn(tmp_path / "whole", precision)
    stopped, first = learn(tmp_path / "parts", precision, steps=19)
    assert stopped.step == 20
    assert not stopped.finished
    resumed, rest = learn(tmp_path / "parts", precision)
    assert resumed.finished
    assert len(first) + len(rest) == len(losses)
    assert np.allclose(first[:5], losses[:5], atol=1e-2)  # sums on a GPU are not always taken in the same order
    for training in (whole, resumed):
        for head in range(2):
            pairs = {(int(kind), int(label)) for kind, label in zip(CLASSES, training.labels[:, head], strict=True)}
            assert len(pairs) <= 5, "nothing was learnt"


@NO_GPU
@BOTH
@pytest.mark.slow
def test_compiled_networks_give_what_others_give(precision: str) -> None:
    features = []
    for compiled in (False, True):
        learner = backbone(precision, compile=compiled)
        batch = next(learner.batches([np.arange(24)], [0]))
        loss = learner.train_step(batch, np.zeros((24, 2), np.int32), 0.01)
        features.append(loss)
    assert features[0] == pytest.approx(features[1], rel=1e-3 if precision == "float32" else 2e-2)


@NO_GPU
@pytest.mark.processes
def test_two_machines_with_a_gpu_each_do_together_what_one_does(tmp_path: Path) -> None:
    """Here they share one GPU, which NCCL allows to machines of different names."""
    program = [PROGRAM, str(tmp_path), "cuda"]
    run(torchrun(1, *program, options=["--standalone"]), tmp_path)
    running = []
    for rank in range(2):
        where = ["--nnodes=2", f"--node-rank={rank}", "--master-addr=127.0.0.1", "--master-port=29517"]
        environment = ENVIRONMENT | {"NCCL_HOSTID": f"machine-{rank}", "NCCL_SOCKET_IFNAME": "lo"}
        command = torchrun(1, *program, options=where)
        running.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=200)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert_as_one(tmp_path, 2, np.load(tmp_path / "found-1-0.npz"))
