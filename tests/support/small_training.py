"""Program of each process in the tests of several processes: exchange, batch norms and a small training."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backbones.data.clips import StoredClips, cache_format
from backbones.data.settings import AugmentSettings
from backbones.distributed.processes import local_device, process_group
from backbones.distributed.sync_batch_norm import sync_batch_norms
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.media.video_cache import DecodedVideo
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import gather_lines, local_rows
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.selflabel.training import Training
from selavi_ref.store import WorkingStore

N = 41
CLASSES = np.arange(N) % 3


def collection(settings: BackboneSettings) -> StoredClips:
    rng = np.random.default_rng(0)
    clip = settings.clip
    frames = round(1.5 * cache_format(clip).fps)
    kept = []
    for kind in CLASSES:
        pictures = rng.integers(0, 60, (frames, clip.decode_size, clip.decode_size, 3))
        energies = rng.normal(size=(clip.n_filters, 149))
        pictures[..., kind] += 150
        energies[20 * kind : 20 * kind + 20] += 3
        kept.append(DecodedVideo(pictures.astype(np.uint8), energies.astype(np.float32)))
    return StoredClips(kept, clip)


def exchanged(exchange) -> dict[str, np.ndarray]:
    rank, size = exchange.rank, exchange.size
    numbers = exchange.all_sum(np.arange(5.0) + rank)
    rows = exchange.gather(np.arange(rank * 3, dtype=np.int32).reshape(rank, 3) + 100 * rank)
    lines = gather_lines([f"{rank}/{size}"] * rank, exchange)
    return {"numbers": numbers, "rows": rows, "lines": np.array(lines, dtype="U9")}


def normed(exchange, device) -> dict[str, np.ndarray]:
    """A batch norm over clips that are unevenly spread: outputs, gradients and statistics."""
    x = np.random.default_rng(1).normal(3, 2, (13, 4, 5, 5)).astype(np.float32)
    slopes = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    norm = nn.BatchNorm2d(4).to(device)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 5.0))
    if exchange.size > 1:
        norm = sync_batch_norms(norm, device)
    mine = slice(exchange.rank, None, exchange.size)
    own = torch.from_numpy(x[mine]).to(device).requires_grad_()
    out = norm(own)
    (out * torch.from_numpy(slopes[mine]).to(device)).sum().backward()
    order = np.argsort(np.concatenate([np.arange(13)[r :: exchange.size] for r in range(exchange.size)]))
    return {
        "out": exchange.gather(out.detach().cpu().numpy())[order],
        "slope": exchange.gather(own.grad.cpu().numpy())[order],
        "weight_slope": exchange.all_sum(norm.weight.grad.cpu().numpy().astype(float)),
        "mean": norm.running_mean.cpu().numpy(),
        "var": norm.running_var.cpu().numpy(),
        "eval": norm.eval()(torch.from_numpy(x).to(device)).detach().cpu().numpy(),
    }


def solved(exchange, place: Path) -> dict[str, np.ndarray]:
    """Labels of given log-probabilities, of which each process has its share."""
    n, K = 5003, 37
    rng = np.random.default_rng(3)
    scores = {m: rng.normal(0, 2, (n, K)).astype(np.float32) for m in ("video", "audio")}
    own = local_rows(n, exchange)
    names = {f"log_prob/{m}/0": K for m in scores}
    with WorkingStore.create(
        place / f"given-{exchange.size}-{exchange.rank}.h5", [str(i) for i in own], names
    ) as store:
        for m, x in scores.items():
            store.replace(f"log_prob/{m}/0", x[own.start : own.stop])
        found, marginal = self_label(store, 0, rng.dirichlet(np.full(K, 5.0)), exchange=exchange)
    return {"solved": exchange.gather(found.labels), "marginal": marginal, "cost": np.array(found.cost)}


def learnt(exchange, place: Path, device) -> dict[str, np.ndarray]:
    settings = BackboneSettings(augment=AugmentSettings(background=0.0))  # a background is a clip of the same process
    backbone = TorchBackbone(settings, (3, 3), collection(settings), device=device.type, exchange=exchange)
    training_settings = TrainingSettings(
        epochs=3,
        batch_size=12 // exchange.size,
        learning_rate=0.005,
        labellings=4,
        warmup_epochs=1,
        bn_warmup_batches=3,
    )
    own = local_rows(N, exchange)
    folder = place / f"run{exchange.size}"
    folder.mkdir(exist_ok=True)
    losses, records = [], []
    with WorkingStore.create(
        folder / f"w{exchange.rank}.h5", [str(i) for i in own], working_datasets(backbone)
    ) as store:
        training = Training(
            backbone, training_settings, store, Checkpoints(folder / "checkpoints"), records.append, exchange=exchange
        )
        training.run(lambda now: losses.append(now.loss))
        training.finish()
    weights = torch.cat([p.detach().flatten() for p in backbone.model.parameters()]).cpu().numpy()
    statistics = torch.cat([b.double().flatten() for b in backbone.model.buffers()]).cpu().numpy()
    spread = exchange.all_sum(weights.astype(float)) / exchange.size - weights
    return {
        "losses": np.array(losses),
        "labels": training.labels,
        "weights": weights,
        "statistics": statistics,
        "spread": spread,
        "costs": np.array([r["cost"] for r in records if "cost" in r]),
    }


def main(place: Path, name: str = "cpu") -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    with process_group(name) as exchange:
        device = local_device(name)
        found = exchanged(exchange) | normed(exchange, device) | solved(exchange, place)
        found |= learnt(exchange, place, device)
        np.savez(place / f"found-{exchange.size}-{exchange.rank}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
