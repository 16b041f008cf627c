"""Both networks computed at the same time: the same numbers, and errors leave nothing running."""

import threading
import time

import numpy as np
import pytest
import torch

from backbones.data.clips import StoredClips
from backbones.data.loader import ClipSampling
from backbones.learner.settings import BackboneSettings
from backbones.learner.side_by_side import ModalityThreads
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.random_videos import random_videos


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def trained(threads, folder):
    """Return losses, weights and extracted features of a short training."""
    torch.set_num_threads(threads)
    settings = BackboneSettings(eval_batch_size=8, precision="float32")
    backbone = TorchBackbone(settings, (3, 3), StoredClips(random_videos(settings, 12), settings.clip))
    torch.set_num_threads(threads)  # whatever the machine has
    labels = np.arange(24, dtype=np.int32).reshape(12, 2) % 3
    batches = [np.arange(6), np.arange(6, 12)] * 2
    losses = [backbone.train_step(batch, labels[batch.rows], 0.1) for batch in backbone.batches(batches, [0])]
    file = folder / f"{threads}.h5"
    widths = backbone.datasets() | {f"log_prob/{m}/0": 3 for m in ("video", "audio")} | {"disagreement": 1}
    with StoreWriter(file, [str(row) for row in range(12)], widths) as writer:
        backbone.extract(writer, [0], ClipSampling(2))
        writer.finish()
    with FeatureStore(file) as store:
        features = [store.features(modality) for modality in ("video", "audio")]
    return losses, backbone.model.state_dict(), features


def test_two_networks_at_once_learn_what_they_learn_one_after_the_other(two_threads, tmp_path):
    losses, weights, features = trained(1, tmp_path)
    its_losses, its_weights, its_features = trained(2, tmp_path)
    assert losses == its_losses
    assert all(torch.equal(value, its_weights[name]) for name, value in weights.items())
    assert all(np.array_equal(*pair) for pair in zip(features, its_features, strict=True))


def test_functions_run_in_two_threads_with_the_callers_gradient_mode(two_threads):
    threads = ModalityThreads(side_by_side=True)
    meet = threading.Barrier(2, timeout=20)

    def work(modality):
        meet.wait()
        return modality, torch.is_grad_enabled(), torch.get_num_threads(), threading.get_ident()

    with torch.no_grad():
        found = threads.map(work, ["video", "audio"])
    assert [found[m][:3] for m in ("video", "audio")] == [("video", False, 1), ("audio", False, 1)]
    assert found["video"][3] != found["audio"][3]
    assert torch.get_num_threads() == 2
    assert threads.map(lambda m: (torch.is_grad_enabled(), meet.n_waiting), ["audio"]) == {"audio": (True, 0)}


@pytest.mark.parametrize("failing", ["video", "audio"])
def test_an_error_is_raised_when_both_have_ended(two_threads, failing):
    threads, ended = ModalityThreads(side_by_side=True), []

    def work(modality):
        if modality == failing:
            raise ValueError(modality)
        time.sleep(0.1)
        ended.append(modality)

    with pytest.raises(ValueError, match=failing):
        threads.map(work, ["video", "audio"])
    assert len(ended) == 1
    assert torch.get_num_threads() == 2


def test_one_thread_computes_one_after_the_other():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = ModalityThreads(side_by_side=True).map(lambda _: threading.get_ident(), ["video", "audio"])
    finally:
        torch.set_num_threads(before)
    assert set(found.values()) == {threading.get_ident()}
