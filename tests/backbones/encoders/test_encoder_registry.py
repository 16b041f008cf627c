import builtins
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from backbones.encoders import load_encoders
from backbones.encoders.registry import GROUP, EncoderName, known_libraries
from selavi_ref.install_hints import install_command
from tests.support.refusal import refused


@pytest.mark.parametrize(
    ("text", "space", "library", "model", "weights"),
    [
        ("logmel", "logmel", "logmel", "", ""),
        ("torchvision:resnet18", "resnet18", "torchvision", "resnet18", ""),
        ("timm:resnet50@w.pth", "resnet50", "timm", "resnet50", "w.pth"),
        ("clip=transformers:openai/clip-vit", "clip", "transformers", "openai/clip-vit", ""),
        ("transformers:openai/clip-vit", "clip-vit", "transformers", "openai/clip-vit", ""),
        ("transformers:/models/ast/", "ast", "transformers", "/models/ast/", ""),
        ("timm:hf-hub:timm/resnet18", "resnet18", "timm", "hf-hub:timm/resnet18", ""),
        ("open_clip:ViT-B-32@/a=b/c@d.pt", "ViT-B-32", "open_clip", "ViT-B-32", "/a=b/c@d.pt"),
    ],
)
def test_a_name_has_parts(text, space, library, model, weights):
    name = EncoderName.parse(text)
    assert (name.space, name.library, name.model, name.weights) == (space, library, model, weights)


def test_another_package_offers_encoders(monkeypatch):
    point = EntryPoint("mine", "tests.support.mean_encoder:load", GROUP)
    broken = EntryPoint("broken", "tests.support.no_such_module:load", GROUP)
    monkeypatch.setattr(
        "backbones.encoders.registry.entry_points",
        lambda group, name=None: [p for p in (point, broken) if group == GROUP and name in (None, p.name)],
    )
    encoders = load_encoders(["mine:mean", "sound=logmel"])
    assert list(encoders) == ["mean", "sound"]
    assert encoders["mean"].name == "mine:mean"
    assert "mine" in known_libraries()
    with refused(option="encoder", value="mine:other"):
        load_encoders(["mine:other"])
    with refused(option="encoder", value="broken:x"):
        load_encoders(["broken:x"])


@pytest.mark.parametrize("name", ["unknown:model", "torchvision", "logmel:model", "logmel@weights", ""])
def test_names_that_nobody_knows_are_refused(name):
    with refused(option="encoder", value=name):
        load_encoders([name])


def test_two_encoders_of_one_space_are_refused():
    with refused(value="logmel"):
        load_encoders(["logmel", "logmel"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without_timm(name, *arguments, **options):
        if name == "timm" or name.startswith("timm."):
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_timm)
    monkeypatch.delitem(sys.modules, "backbones.encoders.timm_models", raising=False)
    with refused(option="encoder", value="timm:resnet18") as caught:
        load_encoders(["timm:resnet18"])
    assert install_command("timm") in str(caught.value)


def test_logmel_needs_no_torch():
    code = "import sys; from backbones.encoders import load_encoders; load_encoders(['logmel']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba"} & set(done.stdout.split())
