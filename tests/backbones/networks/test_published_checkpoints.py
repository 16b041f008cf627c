"""Published checkpoints: read as the original networks compute, refused if anything is odd, and written back."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from backbones.networks import registry
from backbones.networks.model import SelaviModel
from backbones.networks.published_checkpoints import read_published, write_published
from selavi_ref.errors import InputError, SelaviError
from tests.support import original_model
from tests.support.original_model import OriginalModel, learnt_model
from tests.support.refusal import refused


def save(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same_outputs(original, found):
    """Features and logits of the converted networks are those of the original ones."""
    torch.manual_seed(0)
    pictures, sounds = torch.randn(2, 3, 3, 24, 24), torch.randn(2, 1, 40, 30)
    model = found.build().eval()
    with torch.no_grad():
        expected = original.eval().outputs(pictures, sounds)
        for modality, clips in (("video", pictures), ("audio", sounds)):
            features = model.network(modality)(clips)
            assert torch.allclose(features, expected[modality][0], rtol=0, atol=1e-5)
            for logits, original_logits in zip(model.logits(modality, features), expected[modality][1], strict=True):
                assert torch.allclose(logits, original_logits, rtol=0, atol=1e-5)


def test_the_published_model_is_read_as_it_computes(tmp_path):
    original = learnt_model(309, 10)
    assert len(original.state_dict()) == 454
    assert sum(p.numel() for p in original.parameters()) == pytest.approx(44.6e6, rel=2e-3)
    sizes = [torch.rand(309, 1, dtype=torch.float64) + h for h in range(10)]
    labels = torch.randint(309, (20, 10))
    found = read_published(
        save(original_model.checkpoint(original, dist=sizes, selflabels=labels), tmp_path / "ckpt.pth")
    )
    assert (found.video_net, found.audio_net, found.epoch) == ("r2plus1d_18", "resnet9", 200)
    assert (found.clusters, found.mlp, found.hidden) == ((309,) * 10, True, {"video": 512, "audio": 512})
    assert len(found.model) == 454
    assert all(np.array_equal(mine, theirs[:, 0]) for mine, theirs in zip(found.sizes, sizes, strict=True))
    assert found.selflabels.dtype == np.int64
    assert np.array_equal(found.selflabels, labels)
    assert found.optimizer is None
    assert_same_outputs(original, found)


NUMPY_SIZES = [np.full((5, 1), h + 0.5) for h in range(10)]


@pytest.mark.parametrize(
    ("heads", "mlp", "module", "dist", "array", "audio", "zipped"),
    [
        (1, True, True, None, np.asarray, "resnet9", False),
        (10, False, False, NUMPY_SIZES, torch.as_tensor, "resnet18", True),
        (1, False, True, torch.arange(5.0)[:, None], np.asarray, "resnet9", True),
        (2, True, False, torch.arange(5.0)[:, None], torch.as_tensor, "resnet9", False),
    ],
)
def test_every_kind_of_checkpoint_is_read(tmp_path, heads, mlp, module, dist, array, audio, zipped):
    original = learnt_model(5, heads, mlp, "mc3_18", audio)
    labels = np.arange(7 * heads).reshape(7, heads) % 5
    content = original_model.checkpoint(original, epoch=np.int64(3), dist=dist, selflabels=array(labels), module=module)
    found = read_published(save(content, tmp_path / "c.pth.tar", zipped))
    assert (found.video_net, found.audio_net, found.mlp, found.epoch) == ("mc3_18", audio, mlp, 3)
    assert found.clusters == (5,) * heads
    assert np.array_equal(found.selflabels, labels)
    if dist is None:
        assert found.sizes is None
    else:
        given = dist if isinstance(dist, list) else [dist] * heads
        assert all(np.array_equal(s, np.ravel(g)) for s, g in zip(found.sizes, given, strict=True))
    assert_same_outputs(original, found)


@pytest.mark.parametrize(
    ("video", "audio", "mlp"),
    [("r3d_18", "resnet34", False), ("r2plus1d_18", "resnet50", True), ("nano", "tiny", True), ("tiny", "nano", False)],
)
def test_networks_are_known_by_their_weights(tmp_path, video, audio, mlp):
    with torch.device("meta"):
        shapes = OriginalModel(5, 2, mlp, video, audio).state_dict()
    weights = {name: torch.zeros((), dtype=v.dtype).expand(v.shape) for name, v in shapes.items()}  # a small file
    found = read_published(save({"epoch": 1, "model": weights}, tmp_path / "c.pth"))
    assert (found.video_net, found.audio_net, found.clusters, found.mlp) == (video, audio, (5, 5), mlp)


def tiny_model(clusters=(3, 3), mlp=True, seed=0):
    torch.manual_seed(seed)
    return SelaviModel(registry.find("video", "tiny"), registry.find("audio", "tiny"), clusters, 0.0, mlp=mlp)


TINY = tiny_model()


def content_of(network=TINY, **changes):
    return {"epoch": 2, "dist": None, "model": network.state_dict(), **changes}


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_published(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path} ")
    return message.removeprefix(f"{path} ")


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_refused_and_never_run(tmp_path, zipped):
    made = tmp_path / "made"
    of_numpy = "numpy.dtypes.ObjectDType"
    for name, changes in (
        (of_numpy, {"dist": np.array([Malicious(made)])}),
        (f"{os.mkdir.__module__}.mkdir", {"args": Malicious(made)}),
        (f"{os.mkdir.__module__}.mkdir", {"dist": [Malicious(made)]}),
    ):
        path = save(content_of(**changes), tmp_path / "evil.pth", zipped)
        assert refusal(path) == f"is refused: it holds objects ({name}), and loading objects could run any code"
        assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # it would have run


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_refused_and_never_run(tmp_path, protocol):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "made"), protocol))
    assert refusal(tmp_path / "evil.pth")
    assert not (tmp_path / "made").exists()


def test_objects_that_do_no_harm_are_refused_too(tmp_path):
    class_of_another_program = registry.NetworkSpec("x", "video", torch.nn.Identity, 1, 1)
    path = save(content_of(args=class_of_another_program), tmp_path / "c.pth")
    assert "it holds objects (backbones.networks.registry.NetworkSpec)" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_cut_short_are_refused(tmp_path, zipped):
    whole = save(content_of(selflabels=torch.zeros(4, 2, dtype=torch.long)), tmp_path / "whole.pth", zipped)
    data = whole.read_bytes()
    read_published(whole)
    cut = tmp_path / "cut.pth"
    for length in (0, 1, 30, 1000, len(data) // 4, len(data) // 2, len(data) - 1000, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(InputError) as caught:
            read_published(cut)
        assert caught.value.path == cut
    with refused(path=tmp_path / "none.pth"):
        read_published(tmp_path / "none.pth")


def wrong_entry(content, tmp_path):
    """Return which entry of a file is named as wrong."""
    with pytest.raises(InputError) as caught:
        read_published(save(content, tmp_path / "c.pth"))
    assert str(caught.value).startswith(f"{tmp_path}/c.pth is not a SeLaVi checkpoint")
    return caught.value.option


def test_other_files_are_refused_with_what_they_lack(tmp_path):
    def wrong(content):
        return wrong_entry(content, tmp_path)

    weights = TINY.state_dict()

    def without(*names):
        return content_of(model={k: v for k, v in weights.items() if not k.startswith(names)})

    assert wrong([1]) is None
    assert wrong(weights) == "model"
    assert wrong({"model": weights}) == "epoch"
    assert wrong({"model": {"a": 3}, "epoch": 1}) == "model"
    assert wrong(without("mlp_")) == "mlp_v.weight"
    assert wrong(without("mlp_v0")) == "mlp_v0.block_forward.8.weight"
    assert wrong(without("mlp_a1")) == "mlp_a1.block_forward.2.weight"
    assert wrong(without("video_network.base.4.")) == "video_network.base.4.weight"
    assert wrong(without("video_network")) == "video_network.base.stem.0.weight"
    unknown = {**weights, "video_network.base.fc.weight": torch.zeros(2, 2)}
    assert wrong(content_of(model=unknown)) == "video_network.base.fc.weight"


def test_odd_values_are_refused(tmp_path):
    def wrong(**changes):
        return wrong_entry(content_of(**changes), tmp_path)

    weights = TINY.state_dict()
    name = "mlp_a1.block_forward.8.bias"
    assert wrong(model={**weights, name: torch.zeros(4)}) == name
    assert wrong(model={**weights, name: torch.full((3,), np.inf)}) == name
    flat = "mlp_v0.block_forward.8.weight"
    assert wrong(model={**weights, flat: torch.zeros(())}) == flat
    for epoch in ("4", 1.5, -1, None, True):
        assert wrong(epoch=epoch) == "epoch"
    ragged = [np.ones(3), np.ones(4)]
    for dist in ("abc", [], [np.ones(3)], ragged, np.ones(4), [np.ones(3), np.full(3, np.nan)], {"a": 1}):
        assert wrong(dist=dist) == "dist"
    for labels in ("abc", np.zeros(4, int), np.zeros((4, 3), int), torch.zeros(4, 2)):
        assert wrong(selflabels=labels) == "selflabels"
    assert wrong(selflabels=np.full((4, 2), 3)) == "selflabels"
    assert wrong(selflabels=np.full((4, 2), -1)) == "selflabels"
    good = torch.optim.SGD(TINY.parameters(), lr=0.1).state_dict()
    few = {**good, "param_groups": [{**good["param_groups"][0], "params": [0, 1]}]}
    wide = {**good, "state": {0: {"momentum_buffer": torch.zeros(9)}}}
    for optimizer in (3, {}, {"state": {}}, few, wide, {**good, "param_groups": good["param_groups"] * 2}):
        assert wrong(optimizer=optimizer) == "optimizer"


def test_sizes_by_rows_and_labels_of_a_single_head_are_read(tmp_path):
    rows = torch.arange(6.0).view(2, 3, 1)
    found = read_published(save(content_of(dist=rows), tmp_path / "c.pth"))
    assert np.array_equal(found.sizes, rows[:, :, 0])
    single = content_of(tiny_model((4,)), selflabels=np.arange(4))
    found = read_published(save(single, tmp_path / "c.pth"))
    assert found.selflabels.tolist() == [[0], [1], [2], [3]]
    assert found.clusters == (4,)


def test_reading_draws_no_random_numbers(tmp_path):
    path = save(content_of(), tmp_path / "c.pth")
    before = torch.get_rng_state()
    read_published(path).build()
    assert torch.equal(before, torch.get_rng_state())


def test_half_precision_and_other_widths_are_read(tmp_path):
    video = registry.find("video", "tiny")
    narrow = registry.NetworkSpec("tiny", "video", video.build, video.n_features, 32)
    model = SelaviModel(narrow, registry.find("audio", "tiny"), (3, 3))
    found = read_published(save(content_of(model.half()), tmp_path / "c.pth"))
    assert found.hidden == {"video": 32, "audio": 256}
    assert {value.dtype for value in found.model.values()} == {torch.float32, torch.int64}
    features = torch.randn(2, 192)
    built = found.build().eval()
    expected = model.float().eval()
    assert torch.allclose(built.head("video", 1)(features), expected.head("video", 1)(features))


def test_a_built_model_learns_without_changing_what_was_read(tmp_path):
    found = read_published(save(content_of(), tmp_path / "c.pth"))
    model = found.build()
    before = found.model["mlp_v0.block_forward.8.bias"].clone()
    with torch.no_grad():
        model.head("video", 0).block_forward[-1].bias += 1
    assert torch.equal(found.model["mlp_v0.block_forward.8.bias"], before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("clusters", [(4,), (4, 4, 4)])
@pytest.mark.parametrize("mlp", [True, False])
def test_what_is_written_is_read_back(tmp_path, module, clusters, mlp):
    model = tiny_model(clusters, mlp)
    sizes = [np.arange(4.0) + h for h in range(len(clusters))]
    labels = np.arange(5 * len(clusters), dtype=np.int32).reshape(5, -1) % 4
    path = tmp_path / "c.pth"
    write_published(path, model.state_dict(), epoch=7, sizes=sizes, selflabels=labels, module=module)
    found = read_published(path)
    assert found.model.keys() == model.state_dict().keys()
    assert list(found.model) == list(model.state_dict())
    assert all(torch.equal(found.model[name], value) for name, value in model.state_dict().items())
    assert (found.clusters, found.mlp, found.epoch, found.video_net) == (clusters, mlp, 7, "tiny")
    assert np.array_equal(found.sizes, sizes)
    assert np.array_equal(found.selflabels, labels)
    plain = torch.load(path, weights_only=True)
    assert sorted(plain) == ["dist", "epoch", "model", "selflabels"]
    assert all(name.startswith("module.") == module for name in plain["model"])
    assert [tuple(one.shape) for one in plain["dist"]] == [(4, 1)] * len(clusters)
    assert plain["selflabels"].dtype == torch.int64
    assert os.listdir(tmp_path) == ["c.pth"]


def test_what_is_not_known_is_left_out(tmp_path):
    write_published(tmp_path / "c.pth", TINY.state_dict(), epoch=0)
    plain = torch.load(tmp_path / "c.pth", weights_only=True)
    assert sorted(plain) == ["dist", "epoch", "model"]
    assert plain["dist"] is None
    found = read_published(tmp_path / "c.pth")
    assert (found.sizes, found.selflabels, found.optimizer) == (None, None, None)


def test_what_does_not_fit_is_not_written(tmp_path):
    weights = TINY.state_dict()
    path = tmp_path / "c.pth"
    with refused(option="selflabels"):
        write_published(path, weights, epoch=1, selflabels=np.zeros((3, 5), int))
    with refused(option="dist"):
        write_published(path, weights, epoch=1, sizes=[np.ones(3)])
    with refused(option="other.weight"):
        write_published(path, {**weights, "other.weight": torch.zeros(1)}, epoch=1)
    assert not os.listdir(tmp_path)


def test_a_file_that_cannot_be_replaced_stays(tmp_path):
    weights = TINY.state_dict()
    (tmp_path / "c.pth").mkdir()
    with refused(SelaviError, path=tmp_path / "c.pth"):
        write_published(tmp_path / "c.pth", weights, epoch=1)
    assert os.listdir(tmp_path) == ["c.pth"]
    with refused(SelaviError, path=tmp_path / "nowhere/c.pth"):
        write_published(tmp_path / "nowhere" / "c.pth", weights, epoch=1)


def learn(outputs, parameters, optimizer):
    """One step on the sum of squares of all logits; each head has a gradient of its own."""
    loss = sum((logits**2).mean() for modality in outputs for logits in outputs[modality])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def test_learning_goes_on_with_the_momentum_of_the_checkpoint(tmp_path):
    original = learnt_model(4, 3, video="tiny", audio="tiny").eval()
    theirs = torch.optim.SGD(original.parameters(), lr=0.01, momentum=0.9)
    pictures, sounds = torch.randn(4, 3, 2, 16, 16), torch.randn(4, 1, 20, 20)

    def original_step():
        outputs = original.outputs(pictures, sounds)
        learn({modality: logits for modality, (_, logits) in outputs.items()}, original.parameters(), theirs)

    original_step()
    path = save(original_model.checkpoint(original, optimizer=theirs, module=True), tmp_path / "c.pth")
    found = read_published(path)
    write_published(tmp_path / "back.pth", found.model, epoch=3, optimizer=found.optimizer, module=True)
    before, after = (torch.load(p, weights_only=True) for p in (path, tmp_path / "back.pth"))
    assert list(after["model"]) == list(before["model"])
    assert after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"]
    momentum = "momentum_buffer"
    for number, state in before["optimizer"]["state"].items():
        assert torch.equal(after["optimizer"]["state"][number][momentum], state[momentum])
    fresh = OriginalModel(4, 3, video="tiny", audio="tiny")
    fresh.load_state_dict(OrderedDict((k.removeprefix("module."), v) for k, v in after["model"].items()))
    torch.optim.SGD(fresh.parameters(), lr=0.1).load_state_dict(after["optimizer"])

    model = found.build().eval()
    ours = torch.optim.SGD(model.parameters(), lr=0.5)
    ours.load_state_dict(found.optimizer)
    original_step()
    learn(
        {
            "video": model.logits("video", model.network("video")(pictures)),
            "audio": model.logits("audio", model.network("audio")(sounds)),
        },
        model.parameters(),
        ours,
    )
    expected = original.state_dict()
    for name, value in model.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6, rtol=1e-5), name
