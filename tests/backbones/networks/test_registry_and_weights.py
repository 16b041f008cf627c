"""Networks by name: what they take and give, pretrained weights from files, and networks of other packages."""

import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from backbones.data.settings import ClipSettings
from backbones.learner.settings import BackboneSettings
from backbones.networks import registry
from backbones.networks.registry import Base, NetworkSpec
from backbones.networks.weights import load_weights, read_torch
from selavi_ref.errors import InputError
from tests.support.refusal import refused as refused_error

ROOT = Path(__file__).parents[3]
SHOWN = {
    "r2plus1d_18": 512,
    "r3d_18": 512,
    "mc3_18": 512,
    "s3d": 1024,
    "mvit_v2_s": 768,
    "swin3d_t": 768,
    "nano": 192,
    "tiny": 192,
}
HEARD = {"resnet9": 512, "resnet18": 512, "resnet34": 512, "resnet50": 2048, "nano": 192, "tiny": 192}


def shapes_only(spec):
    with torch.device("meta"):
        return Base(spec.build()).eval()


def features_shape(spec, frames, size, network=None):
    """The shape of the features of two clips, worked out without computing them."""
    network = network or shapes_only(spec)
    return tuple(network(torch.empty(2, 3, frames, size, size, device="meta")).shape)


def state_is_complete(network):
    return {name for name, _ in network.named_buffers()} <= network.state_dict().keys()


def test_all_networks_are_known():
    assert set(registry.names("video")) >= set(SHOWN)
    assert set(registry.names("audio")) >= set(HEARD)


@pytest.mark.parametrize("name", SHOWN)
def test_video_networks_give_features_of_the_clip_that_they_are_made_for(name):
    spec = registry.find("video", name)
    clip = BackboneSettings.for_networks(name, "tiny").clip
    spec.check(clip)
    assert clip.video_seconds < 1.1  # as long as a video must be
    assert spec.n_features == SHOWN[name]
    network = shapes_only(spec)
    assert state_is_complete(network)
    assert features_shape(spec, clip.frames, clip.size, network) == (2, spec.n_features)


@pytest.mark.parametrize("name", HEARD)
def test_audio_networks_give_features_of_a_second_of_sound(name):
    spec = registry.find("audio", name)
    spec.check(ClipSettings())
    assert spec.n_features == HEARD[name]
    network = shapes_only(spec)
    assert state_is_complete(network)
    assert tuple(network(torch.empty(2, 1, 257, 99, device="meta")).shape) == (2, spec.n_features)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "swin3d_t"])
def test_networks_without_limits_take_a_single_small_frame(name):
    spec = registry.find("video", name)
    assert not spec.limits
    assert features_shape(spec, 1, 1) == (2, spec.n_features)


def test_features_are_numbers():
    with torch.no_grad():
        features = Base(registry.find("video", "mc3_18").build()).eval()(torch.randn(2, 3, 3, 33, 33))
    assert features.shape == (2, 512)
    assert features.isfinite().all()
    assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize("name", ["s3d", "mvit_v2_s"])
def test_limits_are_where_a_network_stops_working(name):
    spec = registry.find("video", name)
    clip = ClipSettings(**spec.clip)
    network = shapes_only(spec)
    for bound in (0, 1):
        corner = {setting: limits[bound] or 2 * limits[0] for setting, limits in spec.limits.items()}
        inside = replace(clip, **corner)
        spec.check(inside)
        assert features_shape(spec, inside.frames, inside.size, network) == (2, spec.n_features)
        for setting, limits in spec.limits.items():
            if limits[bound] is None:
                continue
            outside = replace(inside, **{setting: limits[bound] + (1 if bound else -1)})
            with pytest.raises(InputError):
                spec.check(outside)
            with pytest.raises(RuntimeError):
                features_shape(spec, outside.frames, outside.size, network)


def test_a_clip_that_does_not_fit_is_refused_with_all_that_does():
    with pytest.raises(InputError) as caught:
        registry.find("video", "mvit_v2_s").check(ClipSettings(frames=30, size=224))
    assert str(caught.value) == (
        "video network mvit_v2_s takes frames of 15 to 16 and size of 221 to 224, not frames=30"
    )
    with refused_error(option="video_net", value="s3d"):
        registry.find("video", "s3d").check(ClipSettings())


def saved(state, path):
    torch.save(state, path)
    return path


def colour_resnet():
    network = torchvision.models.resnet18(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def test_weights_of_pictures_hear_a_sound_as_they_saw_its_grey_picture(tmp_path):
    seen = colour_resnet()
    path = saved(seen.state_dict(), tmp_path / "resnet18.pth")
    spec = registry.find("audio", "resnet18")
    network = Base(spec.build()).eval()
    assert load_weights(network, spec, path) == ["fc.weight", "fc.bias"]
    seen.fc = torch.nn.Identity()
    sounds = torch.randn(2, 1, 40, 30)
    with torch.no_grad():
        assert torch.allclose(network(sounds), seen(sounds.expand(2, 3, 40, 30)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "classifier", "under"),
    [("mc3_18", "fc", "state_dict"), ("swin3d_t", "head", None), ("s3d", "classifier", "model")],
)
def test_video_weights_come_from_a_file_of_torchvision(tmp_path, name, classifier, under):
    with torch.device("meta"):  # initial weights would take most of the time
        state = getattr(torchvision.models.video, name)(weights=None, num_classes=5).state_dict()
    state = {key: torch.rand(v.shape).to(v.dtype) for key, v in state.items()}
    if under == "model":
        state = {f"module.{key}": value for key, value in state.items()}
    path = saved(state if under is None else {"epoch": 3, under: state}, tmp_path / "w.pth")
    spec = registry.find("video", name)
    network = shapes_only(spec).to_empty(device="cpu")
    ignored = load_weights(network, spec, path)
    assert ignored
    assert all(key.startswith(classifier) for key in ignored)
    for key, value in network.base.state_dict().items():
        assert torch.equal(value, state[f"module.{key}" if under == "model" else key])


def test_old_files_that_do_not_count_batches_are_read(tmp_path):
    state = {k: v.half() for k, v in colour_resnet().state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    spec = registry.find("audio", "resnet18")
    network = Base(spec.build())
    load_weights(network, spec, tmp_path / "old.pth")
    assert network.base.bn1.num_batches_tracked == 0
    assert network.base.layer1[0].conv1.weight.dtype == torch.float32
    assert torch.equal(network.base.layer1[0].conv1.weight, state["layer1.0.conv1.weight"].float())


def test_weights_of_another_network_are_refused(tmp_path):
    spec = registry.find("audio", "resnet18")
    network = shapes_only(spec)
    state = colour_resnet().state_dict()

    def refused(content):
        with pytest.raises(InputError) as caught:
            load_weights(network, spec, saved(content, tmp_path / "w.pth"))
        assert f"{tmp_path}/w.pth" in str(caught.value)
        return caught.value.option

    small = {k: v for k, v in state.items() if ".1." not in k}
    assert refused(small) == "layer1.1.conv1.weight"
    large = {**state, "layer1.2.conv1.weight": state["layer1.1.conv1.weight"]}
    assert refused(large) == "layer1.2.conv1.weight"
    wide = {**state, "conv1.weight": torch.zeros(64, 4, 7, 7)}
    assert refused(wide) == "conv1.weight"
    wild = {**state, "bn1.weight": torch.full((64,), float("nan"))}
    assert refused(wild) == "bn1.weight"
    for content in ([1, 2], {"model": 3}, {}, {"a": 1}):
        assert refused(content) is None


def test_files_that_are_not_pytorchs_are_refused(tmp_path):
    with refused_error(path=tmp_path / "none"):
        read_torch(tmp_path / "none")
    with refused_error(path=tmp_path):
        read_torch(tmp_path)
    for content in (b"", b"hello", b"\x80\x02", b"PK\x03\x04 and no more", bytes(10_000)):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_torch(tmp_path / "f")
        assert caught.value.path == tmp_path / "f"


@pytest.mark.parametrize("zipped", [True, False])
def test_arrays_and_numbers_of_numpy_are_read(tmp_path, zipped):
    content = {"f": np.linspace(0, 1, 4), "i": np.arange(6).reshape(2, 3), "n": np.int64(3), "x": np.float32(0.5)}
    torch.save(content, tmp_path / "f", _use_new_zipfile_serialization=zipped)
    result = read_torch(tmp_path / "f")
    assert result.keys() == content.keys()
    assert all(np.array_equal(result[key], content[key]) for key in content)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that puts a package with an entry point on the path, its metadata as an installer writes it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name, module, source, target):
        (tmp_path / f"{module}.py").write_text(source)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[selavi.backbones]\n{name} = {module}:{target}\n")

    return install


SPEC = """
from torch import nn
from backbones.networks.registry import NetworkSpec
SPEC = NetworkSpec("any", {modality!r}, nn.Flatten, 9, 8)
"""


def test_a_broken_package_prevents_only_its_own_use(installed):
    installed("good", "good_one", SPEC.format(modality="video"), "SPEC")
    installed("absent", "absent_one", "import a_module_that_is_not_there", "SPEC")
    installed("odd", "odd_one", "SPEC = 3", "SPEC")
    installed("smell", "smelling_one", SPEC.format(modality="smell"), "SPEC")
    assert registry.find("video", "good").name == "good"
    assert registry.find("audio", "tiny").n_features == 192
    assert "good" in registry.names("video")
    for name, reason in (("absent", "ModuleNotFoundError"), ("odd", "not a NetworkSpec"), ("smell", "'smell'")):
        with pytest.raises(InputError) as caught:
            registry.find("video", name)
        assert caught.value.option == name
        assert reason in str(caught.value)
        assert str(caught.value) in registry.load_errors()
    assert len(registry.load_errors()) == 3
    with refused_error(option="video_net", value="vgg"):
        registry.find("video", "vgg")


def test_only_the_package_asked_for_is_imported(installed):
    installed("good", "good_two", SPEC.format(modality="audio"), "SPEC")
    installed("other", "other_two", SPEC.format(modality="audio"), "SPEC")
    registry.find("audio", "good")
    assert "good_two" in sys.modules
    assert "other_two" not in sys.modules


def test_an_installed_package_does_not_replace_a_network_of_ours(installed):
    installed("tiny", "tiny_two", SPEC.format(modality="audio"), "SPEC")
    assert registry.find("audio", "tiny").n_features == 192
    assert registry.names("audio").count("tiny") == 1


def test_a_spec_of_a_package_needs_only_the_first_fields():
    spec = NetworkSpec("any", "audio", torch.nn.Flatten, 9, 8)
    spec.check(ClipSettings())
    assert (spec.clip, spec.classifier) == ({}, "fc")


@pytest.mark.processes
def test_a_network_of_an_installed_package_is_built(tmp_path):
    if not all(map(find_spec, ("pip", "setuptools"))):
        pytest.skip("needs pip and setuptools")
    source = shutil.copytree(
        ROOT / "tests" / "support" / "example_package", tmp_path / "source"
    )  # building leaves files beside it
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", tmp_path / "site", source]
    subprocess.run(command, check=True, capture_output=True)
    code = (
        "import torch\nfrom backbones.networks import registry\n"
        "spec = registry.find('audio', 'loudness')\n"
        "features = registry.Base(spec.build())(torch.ones(2, 1, 40, 99))\n"
        "print(spec.name, tuple(features.shape), spec.clip['n_filters'], registry.names('audio'))"
    )
    environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "PATH": ""}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.startswith("loudness (2, 16) 40 ['loudness', 'nano', 'resnet18'")


def test_the_first_audio_convolution_is_initialised_as_published():
    torch.manual_seed(0)
    network = registry.find("audio", "resnet9").build()
    first, second = network.conv1.weight, network.layer1[0].conv1.weight
    assert first.abs().max() <= 1 / 7  # PyTorch's default: uniform within 1 / sqrt(fan in)
    assert second.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # Kaiming, by the outputs
