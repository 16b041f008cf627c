"""Checkpoints that load but hold something else: every kind is refused in one line that names the file."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.data.clips import StoredClips
from backbones.finetuning.results import FoldResult
from backbones.learner.checkpoint import read_checkpoint, read_newest, write_checkpoint
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from selavi_ref.crossfit.checkpoint import load_model, save_model
from selavi_ref.crossfit.components import Components
from selavi_ref.crossfit.model import CrossfitModel
from selavi_ref.crossfit.search import SearchSummary
from selavi_ref.errors import CheckpointError, InputError, SelaviError
from selavi_ref.heads.backbone import read_checkpoint as read_heads
from selavi_ref.heads.training_run import newest_state
from selavi_ref.media.video_cache import DecodedVideo
from selavi_ref.runs.run import Run
from tests.support.command_line import refused, selavi
from tests.support.refusal import refused as refused_error

WRITTEN = Path(__file__).parent.parent / "support" / "version_0_1_0"
N, K, H = 6, 3, 2


def refused_by(read, path):
    """An error of one line that names the file."""
    with pytest.raises((InputError, CheckpointError)) as caught:
        read()
    assert Path(path).name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def backbone():
    settings = BackboneSettings()
    clip = settings.clip
    frames = np.zeros((40, clip.decode_size, clip.decode_size, 3), np.uint8)
    video = DecodedVideo(frames, np.zeros((clip.n_filters, 199), np.float32))
    return TorchBackbone(settings, (K,) * H, StoredClips([video] * N, clip))


class TestNetworks:
    @pytest.fixture
    def content(self, backbone):
        sizes = {f"sizes_{head}": torch.full((K,), 1 / K, dtype=torch.float64) for head in range(H)}
        return {
            "model": backbone.model.state_dict(),
            "optimizer": backbone.optimizer.state_dict(),
            "random": torch.get_rng_state()[None],
            "cuda_random": None,
            "state": {
                "step": 4,
                "epoch": 2,
                "per_epoch": 2,
                "settle_from": -1,
                "finished": True,
                "losses": torch.zeros(0, dtype=torch.float64),
                "failures": "[]",
                "labels": torch.zeros((N, H), dtype=torch.int32),
                "potentials_0": torch.tensor([0.0, 1.0, -float("inf")], dtype=torch.float64),
                **sizes,
            },
        }

    @pytest.fixture
    def run(self, tmp_path):
        run = Run.prepare(tmp_path / "run")
        run.rewrite_config({"clusters": K, "heads": H})
        run.checkpoint_folder.mkdir()
        return run

    def test_its_own_are_read(self, run, backbone, content):
        path = run.checkpoint_folder / "000001-step-4.pt"
        write_checkpoint(path, content)
        assert read_newest(run)["state"]["epoch"] == 2
        assert backbone.load(path)["labels"].shape == (N, H)

    @pytest.mark.parametrize("value", ["missing", "text", None, torch.zeros(2, 3, 4), float("nan"), [1, "x"], {}])
    @pytest.mark.parametrize(
        "name", ["step", "epoch", "per_epoch", "finished", "losses", "failures", "labels", "sizes_1"]
    )
    def test_a_state_with_other_entries_is_refused(self, run, backbone, content, name, value):
        path = run.checkpoint_folder / "000001-step-4.pt"
        content["state"][name] = value
        if isinstance(value, str) and value == "missing":
            del content["state"][name]
        write_checkpoint(path, content)
        refused_by(lambda: read_newest(run), path)
        refused_by(lambda: backbone.load(path), path)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("labels", torch.zeros((N, H + 1), dtype=torch.int32)),
            ("labels", torch.zeros((N, 0), dtype=torch.int32)),
            ("labels", torch.full((N, H), -7, dtype=torch.int32)),
            ("sizes_0", torch.ones(K + 1)),
            ("sizes_0", torch.zeros(K)),
            ("potentials_0", torch.ones(K + 1)),
            ("potentials_1", "text"),
            ("step", -1),
            ("per_epoch", 0),
            ("epoch", 10**30),
            ("failures", "[" * 100_000),
            ("failures", '[["a", "b"]]'),
        ],
    )
    def test_other_sizes_are_refused(self, run, backbone, content, name, value):
        path = run.checkpoint_folder / "000001-step-4.pt"
        content["state"][name] = value
        write_checkpoint(path, content)
        refused_by(lambda: backbone.load(path), path)

    @pytest.mark.parametrize("value", [None, "text", {}, [], {"a": 1}, torch.zeros(3), {3: torch.zeros(3)}])
    @pytest.mark.parametrize("name", ["model", "optimizer", "random", "state"])
    def test_other_parts_are_refused(self, run, backbone, content, name, value):
        path = run.checkpoint_folder / "000001-step-4.pt"
        write_checkpoint(path, {**content, name: value})
        refused_by(lambda: backbone.load(path), path)
        write_checkpoint(path, {key: part for key, part in content.items() if key != name})
        refused_by(lambda: read_newest(run), path)
        refused_by(lambda: backbone.load(path), path)

    def test_momentum_of_other_shapes_or_options_of_other_types_are_refused(self, run, backbone, content):
        path = run.checkpoint_folder / "000001-step-4.pt"
        optimizer = content["optimizer"]
        groups = [{**group, "momentum": "x"} for group in optimizer["param_groups"]]
        for changed in (
            {**optimizer, "state": {0: {"momentum_buffer": torch.zeros(3)}}},
            {**optimizer, "state": {0: 3}},
            {**optimizer, "param_groups": groups},
        ):
            write_checkpoint(path, {**content, "optimizer": changed})
            refused_by(lambda: backbone.load(path), path)

    def test_a_command_reports_it_in_one_line(self, run, content, tmp_path):
        write_checkpoint(run.checkpoint_folder / "000001-step-4.pt", {**content, "state": {"epoch": "x"}})
        config = tmp_path / "run" / "config.toml"
        shutil.copy(WRITTEN / "config.toml", config)
        refused(selavi("convert", "run", "--to", "x.pth", cwd=tmp_path), "000001-step-4.pt")


class TestHeads:
    @pytest.fixture
    def run(self, tmp_path):
        for name in ("run", "features.h5"):
            copy = shutil.copytree if (WRITTEN / name).is_dir() else shutil.copy
            copy(WRITTEN / name, tmp_path / name)
        config = tmp_path / "run" / "config.toml"
        config.write_text(config.read_text().replace("/tmp/version_0_1_0", str(tmp_path)))
        return Run.open(tmp_path / "run")

    def test_every_entry_is_checked(self, run):
        (path,) = run.checkpoint_folder.iterdir()
        with np.load(path) as file:
            content = {name: file[name] for name in file.files}
        assert newest_state(run)
        for name in content:
            if name.startswith("state/potentials"):
                continue
            for value in (None, np.array("text"), np.zeros((2, 3, 4)), np.array(np.nan)):
                changed = {key: part for key, part in content.items() if key != name}
                with open(path, "wb") as file:
                    np.savez(file, **(changed if value is None else {**changed, name: value}))
                refused_by(lambda: newest_state(run), path)
        refused(selavi("train-heads", "--resume", "--out", run.folder), path.name)

    def test_declared_sizes_are_no_reason_to_end_with_a_traceback(self, run):
        (path,) = run.checkpoint_folder.iterdir()
        huge = io.BytesIO()
        np.lib.format.write_array_header_1_0(huge, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
        with np.load(path) as file:
            names = file.files
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(f"{name}.npy", huge.getvalue())
        refused_by(lambda: newest_state(run), path)


class TestCrossFittedHeads:
    @pytest.fixture
    def path(self, tmp_path):
        rng, D, C = np.random.default_rng(0), 5, 4
        components = Components(
            np.zeros(D, np.float32), np.ones(D, np.float32), np.eye(D, C, dtype=np.float32), np.ones(C) / C, 1.0
        )
        model = CrossfitModel(
            {"video": components},
            {"video": rng.normal(size=(C + 1, K)).astype(np.float32)},
            np.zeros(K, np.float32),
            np.zeros(K),
            {"video": np.arange(N, dtype=np.uint64)},
            {"video": np.zeros((N, K), np.float32)},
            SearchSummary(0.1, "a", {"a": 1.0}, 0.5),
        )
        save_model(tmp_path / "heads.npz", model)
        return tmp_path / "heads.npz"

    def test_every_entry_is_checked(self, path):
        assert load_model(path).n_clusters == K
        with np.load(path) as file:
            content = {name: file[name] for name in file.files}
        for name in content:
            for value in (None, np.array("text"), np.zeros((2, 3, 4)), np.zeros(0)):
                changed = {key: part for key, part in content.items() if key != name}
                with open(path, "wb") as file:
                    np.savez(file, **(changed if value is None else {**changed, name: value}))
                refused_by(lambda: load_model(path), path)

    @pytest.mark.parametrize("summary", ["[]", "{}", "3", "[" * 100_000, '{"penalty": "x"}'])
    def test_the_summary_is_checked(self, path, summary):
        with np.load(path) as file:
            content = {name: file[name] for name in file.files}
        with open(path, "wb") as file:
            np.savez(file, **{**content, "summary": np.array(summary.encode())})
        refused_by(lambda: load_model(path), path)


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": []},
        {"epochs": [{"epoch": 1}]},
        {"epochs": [{"epoch": 1, "top_1": "x", "top_5": 1.0}]},
        {"epochs": [{"epoch": 1, "top_1": float("nan"), "top_5": 1.0}]},
        {"epochs": "text"},
        {"fold": "x"},
        {"failures": 3},
        {"more": 1},
    ],
)
def test_results_of_a_fold_are_checked(tmp_path, changed):
    epochs = [{"epoch": 1, "top_1": 0.5, "top_5": 1.0}]
    values = {"fold": 1, "train_videos": 5, "test_videos": 5, "failures": [["a", "why"]], "epochs": epochs}
    path = tmp_path / "outcome.json"
    path.write_text(json.dumps(values))
    assert FoldResult.read(path).row["top_1"] == 0.5
    path.write_text(json.dumps(values | changed))
    with refused_error(SelaviError, path=tmp_path / "outcome.json"):
        FoldResult.read(path)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("read", [load_model, read_heads, read_checkpoint])
def test_what_the_system_refuses_is_not_called_damaged(tmp_path, monkeypatch, read, code):
    path = tmp_path / "000001-step-4.npz"
    path.write_bytes(b"x")

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(np, "load", refuse)
    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with refused_error(CheckpointError, path=tmp_path / "000001-step-4.npz") as caught:
        read(path)
    assert "damaged" not in str(caught.value)
