"""Small random models of pictures and texts (CLIP), and of sounds and texts (CLAP), in the form of transformers."""

from __future__ import annotations

import json

import pytest

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
N_TOKENS = 54


def tokenizer_files(folder):
    """A tokenizer of single letters, of the kind of CLIP's."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return str(folder / "vocab.json"), str(folder / "merges.txt")


def make_clip(folder):
    t = pytest.importorskip("transformers")
    folder.mkdir()
    tokenizer = t.CLIPTokenizer(*tokenizer_files(folder), model_max_length=16)
    text = {"vocab_size": N_TOKENS, "max_position_embeddings": 16, "eos_token_id": N_TOKENS - 1, **SMALL}
    vision = {"image_size": 32, "patch_size": 8, **SMALL}
    model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    for part in (
        model,
        tokenizer,
        t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ):
        part.save_pretrained(folder)
    return model, tokenizer


def make_clap(folder):
    t = pytest.importorskip("transformers")
    (folder / "t").mkdir(parents=True)
    audio = {"spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4}
    audio |= {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2]}
    text = {"vocab_size": N_TOKENS, "pad_token_id": 0, **SMALL}
    model = t.ClapModel(t.ClapConfig(text_config=text, audio_config=audio, projection_dim=8))
    extractor = t.ClapFeatureExtractor(feature_size=16, max_length_s=2, truncation="rand_trunc")
    tokenizer = t.CLIPTokenizer(*tokenizer_files(folder / "t"), pad_token="a", model_max_length=16)
    for part in (model, extractor, tokenizer):
        part.save_pretrained(folder)
