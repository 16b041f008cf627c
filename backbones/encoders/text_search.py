"""Texts beside videos, in the space of an encoder that takes both: search by a text, and words as classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoder import Encoder, TextEncoder
from backbones.encoders.extraction import extract_features
from backbones.encoders.registry import EncoderName, load_encoders
from selavi_ref.api.naming import ClassProbabilities, class_probabilities
from selavi_ref.browser.collection import Collection
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

CLIPS = 3
TEMPLATE = "{}"


@dataclass(frozen=True)
class EncodedVideos:
    """
    The store in which an encoder's features of a collection are.

    Parameters
    ----------
    store : Path
        The store.
    space : str
        Feature space in it.
    encoder : str
        Name of the encoder, as ``--encoder`` takes it.
    """

    store: Path
    space: str
    encoder: str


def encoded_videos(collection: Collection) -> list[EncodedVideos]:
    """Return the features that encoders have computed of a collection: those it was labelled by, and later ones."""
    stores = [collection.features_file] if collection.features_file is not None else []
    run = Run(collection.source)
    if run.config_file.exists() and (learnt_from := run.config.get("store")):
        stores.append(Path(learnt_from))
    stores += sorted(collection.encoded_folder.glob("*.h5"))
    return list(_spaces(path for path in stores if path is not None and path.exists()))


def _spaces(stores: Iterator[Path]) -> Iterator[EncodedVideos]:
    for path in stores:
        try:
            with FeatureStore(path) as store:
                for space, about in store.provenance.get("encoders", {}).items():
                    if store.has(f"features/{space}"):
                        yield EncodedVideos(path, space, str(about.get("encoder", "")))
        except SelaviError:
            continue  # an interrupted extraction, or a store of another version


def encode_collection(
    collection: Collection,
    encoder: str,
    *,
    device: str = "auto",
    workers: int = 1,
    clips: int = CLIPS,
    reporter: Reporter = SILENT,
) -> tuple[EncodedVideos, Encoder]:
    """
    Return the features that an encoder computes of a collection, and the encoder.

    They are looked for in the store that the collection was labelled by and in the folder ``encoded`` beside its
    annotations; otherwise they are computed, and written there. An interrupted computation is continued.

    Parameters
    ----------
    collection : Collection
        The videos.
    encoder : str
        As `load_encoders` takes it.
    device, workers, clips, reporter
        See `load_encoders` and `extract_features`.

    Raises
    ------
    InputError
        If the encoder cannot be loaded, or none of the videos exists.
    """
    name = EncoderName.parse(encoder)
    ((space, loaded),) = load_encoders([encoder], device).items()
    earlier = [found for found in encoded_videos(collection) if found.encoder == name.text]
    for found in earlier:
        if _has_all(found.store, collection):
            return found, loaded
    if not any(map(os.path.exists, collection.files)):
        raise InputError(
            f"none of the {len(collection)} videos of {printable(collection.source)} exists, such as "
            f"{printable(collection.files[0])}; name the folder that they are in by --videos",
            option="videos",
        )
    entries = [
        ManifestEntry(file, info=collection.info.get(path))
        for path, file in zip(collection.paths, collection.files, strict=True)
    ]
    folder = collection.encoded_folder
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise SelaviError(f"{printable(folder)} cannot be made: {error.strerror or error}") from error
    store = folder / f"{space}.h5"
    if store in [found.store for found in earlier]:
        store.unlink()  # the collection has grown since
    elif store.exists():
        raise InputError(
            f"{printable(store)} holds features of another encoder; give this one another name: "
            f"--encoder NAME={name.text}",
            path=store,
        )
    extract_features(Manifest(entries), {space: loaded}, store, clips=clips, workers=workers, reporter=reporter)
    return EncodedVideos(store, space, name.text), loaded


def _has_all(store: Path, collection: Collection) -> bool:
    """Return whether a store has all videos of a collection."""
    with FeatureStore(store) as opened:
        known = set(opened.paths)
    return all(p in known or file in known for p, file in zip(collection.paths, collection.files, strict=True))


def class_probabilities_of(
    collection: Collection, encoder: str, words: Sequence[str] | None = None, **options: object
) -> ClassProbabilities:
    """
    Return the probabilities of an encoder's classes, or of words, for the videos of a collection.

    Parameters
    ----------
    collection : Collection
        The videos.
    encoder : str
        A classifier; with `words` a model of pictures and texts (CLIP, SigLIP), or of sounds and texts (CLAP).
    words : sequence of str, optional
        Words or phrases that are possible names.
    **options
        Of `encode_collection`.

    Raises
    ------
    InputError
        If the encoder knows no classes, or, with words, takes no texts.
    """
    encoded, loaded = encode_collection(collection, encoder, **options)  # type: ignore[arg-type]
    if words is None:
        for found in class_probabilities(encoded.store):
            if found.source == encoded.space:
                return found
        takes_texts = isinstance(loaded, TextEncoder)
        raise InputError(
            f"--encoder {encoder} knows no classes by name; "
            + ("give it possible names: --words FILE" if takes_texts else "choose a classifier, or a model with texts"),
            option="encoder",
            value=encoder,
        )
    logits = text_similarities(encoded, loaded, words)
    logits *= getattr(loaded, "text_scale", 1.0)
    logits -= logits.max(1, keepdims=True)
    log_prob = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    with FeatureStore(encoded.store) as store:
        return ClassProbabilities(encoded.space, list(words), store.paths, log_prob)


def text_similarities(encoded: EncodedVideos, encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """
    Return the cosine similarity of each video and each text, float32, shape (N, len(texts)); NaN without features.

    Raises
    ------
    InputError
        If the encoder takes no texts.
    """
    if not isinstance(encoder, TextEncoder):
        raise InputError(
            f"--encoder {encoded.encoder} takes no texts; choose a model of pictures (or sounds) and texts, such as "
            "transformers:openai/clip-vit-base-patch32",
            option="encoder",
            value=encoded.encoder,
        )
    try:
        of_texts = _normalized(encoder.encode_text(texts))
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # the libraries raise anything
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"--encoder {encoded.encoder}: texts cannot be encoded: {why}", option="encoder") from error
    with FeatureStore(encoded.store) as store:
        similarities: NDArray[np.float32] = _normalized(store.features(encoded.space)) @ of_texts.T
    return similarities


def search_texts(
    collection: Collection, texts: Sequence[str], *, encoder: str | None = None, device: str = "auto"
) -> tuple[str, NDArray[np.float32]]:
    """
    Compare all videos of a collection with texts.

    Parameters
    ----------
    collection : Collection
        The videos; an encoder that takes texts must have computed features of them.
    texts : sequence of str
        The texts.
    encoder : str, optional
        Name of the encoder, if there are several; by default the first that takes texts.
    device : str
        Where to compute.

    Returns
    -------
    str
        The encoder's name.
    array
        Cosine similarities, float32, shape (N, len(texts)), in the order of the collection; NaN without features.

    Raises
    ------
    InputError
        If no encoder that takes texts has computed features of the videos.
    """
    candidates = [one for one in encoded_videos(collection) if encoder in (None, one.encoder, one.space)]
    for encoded in candidates:
        (loaded,) = load_encoders([encoded.encoder], device).values()
        if isinstance(loaded, TextEncoder):
            return encoded.encoder, _in_order(collection, encoded, text_similarities(encoded, loaded, texts))
    name = printable(collection.source)
    raise InputError(
        f"no features of {name} are by a model of pictures (or sounds) and texts; compute them: selavi name {name} "
        "--encoder transformers:openai/clip-vit-base-patch32 --words FILE",
        option="encoder",
    )


def _in_order(collection: Collection, encoded: EncodedVideos, values: NDArray[np.float32]) -> NDArray[np.float32]:
    with FeatureStore(encoded.store) as store:
        rows = {path: row for row, path in enumerate(store.paths)}
    found = [rows.get(path, rows.get(file, -1)) for path, file in zip(collection.paths, collection.files, strict=True)]
    where = np.array(found)
    ordered = np.full((len(where), values.shape[1]), np.nan, np.float32)
    ordered[where >= 0] = values[where[where >= 0]]
    return ordered


def _normalized(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):
        normalized: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return normalized
