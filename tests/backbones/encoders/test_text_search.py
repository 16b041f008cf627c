"""Encoders that take texts too: names from a vocabulary and from class names, and search; with small random models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.encoders import TextEncoder, load_encoders
from backbones.encoders.text_search import class_probabilities_of, search_texts
from selavi_ref import Run
from selavi_ref.browser.collection import open_collection
from selavi_ref.store import FeatureStore
from tests.support.browser_run import make_run, make_videos
from tests.support.command_line import refused as refused_command
from tests.support.command_line import selavi, succeeded
from tests.support.refusal import refused
from tests.support.text_models import SMALL, make_clap, make_clip

WORDS = ["a dog", "a cat", "guitar"]


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    make_videos(folder / "videos", 16)
    return make_run(folder / "run", folder / "videos").folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "run")
    return tmp_path


def test_texts_of_clip(tmp_path):
    model, tokenizer = make_clip(tmp_path / "m")
    (encoder,) = load_encoders([f"transformers:{tmp_path / 'm'}"], "cpu").values()
    assert isinstance(encoder, TextEncoder)
    assert encoder.text_scale == pytest.approx(float(model.logit_scale.exp()))
    tokens = tokenizer([*WORDS, "long " * 50], padding=True, truncation=True, return_tensors="pt")
    wanted = model.text_projection(model.text_model(**tokens).pooler_output).detach().numpy()
    assert np.allclose(encoder.encode_text([*WORDS, "long " * 50]), wanted, atol=1e-4)
    assert encoder.encode_text([]).shape == (0, 16)


def test_texts_of_clap(tmp_path):
    make_clap(tmp_path / "m")
    (encoder,) = load_encoders([f"transformers:{tmp_path / 'm'}"], "cpu").values()
    assert isinstance(encoder, TextEncoder)
    assert encoder.encode_text(WORDS).shape == (3, encoder.n_features)


def test_texts_of_open_clip(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    (tmp_path / "tiny-texts.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(tmp_path / "tiny-texts.json")
    network = open_clip.create_model("tiny-texts")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (encoder,) = load_encoders([f"open_clip:tiny-texts@{tmp_path / 'w.pt'}"], "cpu").values()
    assert isinstance(encoder, TextEncoder)
    tokens = open_clip.get_tokenizer("tiny-texts")(WORDS)
    assert np.allclose(encoder.encode_text(WORDS), network.eval().encode_text(tokens).detach().numpy(), atol=1e-4)


def test_words_are_proposed_and_searched(place):
    make_clip(place / "m")
    (place / "words.txt").write_text("\n".join(WORDS) + "\n")
    with refused(option="encoder"):
        search_texts(open_collection("run"), ["a dog"])
    encoder = f"clip=transformers:{place / 'm'}"
    shown = succeeded(
        selavi("name", "run", "--no-files", "--encoder", encoder, "--words", "words.txt", "--workers", "1")
    )
    assert "clip" in shown
    collection = open_collection("run")
    name, similarities = search_texts(collection, ["a dog", "guitar"])
    assert name == f"transformers:{place / 'm'}"
    assert similarities.shape == (len(collection), 2)
    with FeatureStore(place / "run" / "encoded" / "clip.h5") as store:
        features = store.features("clip")
    (loaded,) = load_encoders([encoder], "cpu").values()
    texts = loaded.encode_text(["a dog", "guitar"])
    wanted = features @ texts.T / np.linalg.norm(features, axis=1)[:, None] / np.linalg.norm(texts, axis=1)
    assert np.allclose(similarities, wanted, atol=1e-5, equal_nan=True)
    assert np.isfinite(similarities).any()
    probabilities = class_probabilities_of(collection, encoder, WORDS)
    there = np.isfinite(probabilities.log_prob).all(1)
    assert np.allclose(np.exp(probabilities.log_prob[there]).sum(1), 1, atol=1e-4)
    # What was computed is used again: no video is needed now.
    succeeded(selavi("name", "run", "--no-files", "--words", "words.txt", "--videos", "m"))
    refused_command(selavi("name", "run", "--encoder", encoder), "--words")
    # Of a collection that has grown it is computed anew; another encoder does not take its place.
    table = Path("labels.csv")
    rows = (place / "run" / "labels.csv").read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(rows[:-8]))
    words = ["--no-files", "--words", "words.txt", "--workers", "1"]
    succeeded(selavi("name", table, "--encoder", encoder, *words))
    table.write_bytes(b"".join(rows))
    succeeded(selavi("name", table, "--encoder", encoder, *words))
    with FeatureStore("labels.encoded/clip.h5") as store:
        assert store.n_videos == len(open_collection(table))
    refused_command(selavi("name", table, "--encoder", "clip=logmel", "--no-files"), "clip.h5")


def test_videos_are_found_by_a_text(place):
    make_clip(place / "m")
    refused_command(selavi("retrieve", "run", "a dog"), "a dog", "names no file", "--encoder")
    refused_command(selavi("retrieve", "run", "--text", "a dog"), "--encoder")
    encoder = f"clip=transformers:{place / 'm'}"
    out = ("--out", "found", "--format", "json", "--workers", "1")
    shown = succeeded(selavi("retrieve", "run", "a dog", "--encoder", encoder, "--neighbours", "4", *out))
    rows = json.loads(shown)["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert {row["query"] for row in rows} == {"a dog"}
    collection = open_collection("run")
    _, similarities = search_texts(collection, ["a dog", "guitar"])
    order = np.argsort(-similarities, axis=0, kind="stable")
    assert [row["found"] for row in rows] == [collection.paths[row] for row in order[:4, 0]]
    assert json.loads((place / "found" / "found.json").read_text())["rows"] == rows
    # Later searches take what was computed, by its name or by default; any number of texts, of which one is a file.
    (place / "guitar").touch()
    shown = succeeded(selavi("retrieve", "run", "--text", "a dog", "--text", "guitar", "--encoder", "clip", *out[2:]))
    rows = [row for row in json.loads(shown)["rows"] if row["query"] == "guitar"]
    assert [row["found"] for row in rows] == [collection.paths[row] for row in order[:10, 1]]
    assert [row["found"] for row in Run.open("run").search("guitar").rows] == [row["found"] for row in rows]
    assert "videos have no features" in succeeded(selavi("retrieve", "run/labels.csv", "a dog"))


def test_sounds_are_found_by_a_text(place):
    make_clap(place / "m")
    encoder = f"clap=transformers:{place / 'm'}"
    shown = succeeded(selavi("retrieve", "run", "a bell", "--encoder", encoder, "--workers", "1", "--format", "csv"))
    assert len(shown.splitlines()) == 11


def test_texts_of_segments_need_the_file_alone(place):
    make_clip(place / "m")
    paths = [path for path in open_collection("run").files if Path(path).name.startswith("lamp")]
    rows = "".join(f'"{path}#t=0,0.5",0,\n{path}#t=0.5,1,\n' for path in paths)
    (place / "parts.csv").write_text(f"path,label,reason\n{rows}")
    encoder = f"clip=transformers:{place / 'm'}"
    shown = succeeded(selavi("retrieve", "parts.csv", "a dog", "--encoder", encoder, "--workers", "1"))
    assert "#t=0.5" in shown


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["dogs.mp4"], "dogs.mp4"),
        (["dogs.mp4#t=1,2"], "dogs.mp4"),
        (["list.csv"], "list.csv"),
        (["dogs/barking"], "dogs/barking"),
        (["a dog", "--metric", "cosine"], "--metric"),
        (["a dog", "--text", "a cat"], "--text"),
        (["--text", " "], "empty"),
        (["a dog", "--encoder", "logmel"], "takes no texts"),
        (["a dog", "--encoder", "logmel@"], "logmel"),
        (["run/labels.csv", "--encoder", "logmel"], "--encoder"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(place, args, word):
    refused_command(selavi("retrieve", "run", *args), word)
    assert not (place / "run" / "encoded").exists()


def test_class_names_of_a_classifier_are_proposed(place):
    t = pytest.importorskip("transformers")
    names = {0: "cat", 1: "dog", 2: "owl"}
    model = t.ViTForImageClassification(t.ViTConfig(image_size=32, patch_size=8, id2label=names, **SMALL))
    for part in (model, t.ViTImageProcessor(size={"height": 32, "width": 32})):
        part.save_pretrained(place / "m")
    succeeded(selavi("name", "run", "--no-files", "--encoder", f"vit=transformers:{place / 'm'}", "--workers", "1"))
    kept = json.loads((place / "run" / "names.json").read_text())["labellings"]["consensus"]
    assert {one["name"] for several in kept.values() for one in several} <= set(names.values())
    refused_command(selavi("name", "run", "--encoder", "logmel", "--workers", "1"), "logmel")
    (place / "words.txt").write_text("a\nb\n")
    refused_command(
        selavi("name", "run", "--encoder", f"vit=transformers:{place / 'm'}", "--words", "words.txt"), "takes no texts"
    )
