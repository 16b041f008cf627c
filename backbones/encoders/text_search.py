"""Texts beside videos, in the space of an encoder that takes both: search by a text, and words as classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoder import Encoder, TextEncoder
from backbones.encoders.extraction import extract_features
from backbones.encoders.registry import EncoderName, load_encoders, may_take_texts
from selavi_ref.api.naming import ClassProbabilities, class_probabilities
from selavi_ref.browser.collection import Collection
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.media.segments import file_of
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

CLIPS = 3
_EXAMPLE = "transformers:openai/clip-vit-base-patch32"


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
    takes_texts : bool
        Whether the encoder takes texts, too; of a store that does not say so, whether it may.
    """

    store: Path
    space: str
    encoder: str
    takes_texts: bool


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
                        name = str(about.get("encoder", ""))
                        yield EncodedVideos(path, space, name, bool(about.get("texts", may_take_texts(name))))
        except SelaviError:
            continue  # an interrupted extraction, or a store of another version


def encode_collection(
    collection: Collection,
    encoder: str,
    *,
    device: str = "auto",
    workers: int = 1,
    clips: int = CLIPS,
    needs_texts: bool = False,
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
    needs_texts : bool
        Refuse an encoder that takes no texts, before anything is computed.

    Raises
    ------
    InputError
        If the encoder cannot be loaded, or none of the videos exists.
    """
    name = EncoderName.parse(encoder)
    ((space, loaded),) = load_encoders([encoder], device).items()
    if needs_texts:
        _with_texts(name.text, loaded)
    earlier = [found for found in encoded_videos(collection) if found.encoder == name.text]
    for found in earlier:
        if _has_all(found.store, collection):
            return found, loaded
    if not any(os.path.exists(file_of(file)) for file in collection.files):
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
    return EncodedVideos(store, space, name.text, isinstance(loaded, TextEncoder)), loaded


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
    options["needs_texts"] = words is not None
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
    try:
        of_texts = _normalized(_with_texts(encoded.encoder, encoder).encode_text(texts))
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # the libraries raise anything
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"--encoder {encoded.encoder}: texts cannot be encoded: {why}", option="encoder") from error
    with FeatureStore(encoded.store) as store:
        similarities: NDArray[np.float32] = _normalized(store.features(encoded.space)) @ of_texts.T
    return similarities


def _with_texts(name: str, encoder: Encoder) -> TextEncoder:
    """Return an encoder that takes texts; refuse another one."""
    if not isinstance(encoder, TextEncoder):
        raise InputError(
            f"--encoder {name} takes no texts; choose a model of pictures (or sounds) and texts, such as {_EXAMPLE}",
            option="encoder",
            value=name,
        )
    return encoder


class TextSearch:
    """
    Comparison of all videos of a collection with texts; the encoder is loaded when it is needed first, and kept.

    Parameters
    ----------
    collection : Collection
        The videos.
    encoder : str, optional
        Name of an encoder that takes texts, or of its feature space; features that it has not computed yet are
        computed (`encode_collection`). By default the first that has computed features and takes texts.
    device, workers, reporter
        See `encode_collection`.
    """

    def __init__(
        self,
        collection: Collection,
        encoder: str | None = None,
        *,
        device: str = "auto",
        workers: int = 1,
        reporter: Reporter = SILENT,
    ):
        self.collection = collection
        self._encoder = encoder
        self._device = device
        self._workers = workers
        self._reporter = reporter

    @property
    def encoder(self) -> str:
        """
        Name of the encoder.

        Raises
        ------
        InputError
            If no encoder that takes texts has computed features of the videos, or it cannot be loaded.
        """
        return self._encoded[0].encoder

    def similarities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Return cosine similarities of videos and texts, float32, shape (N, len(texts)); NaN without features.

        Rows are in the order of the collection. Errors are those of `encoder`.
        """
        encoded, loaded = self._encoded
        return _in_order(self.collection, encoded, text_similarities(encoded, loaded, texts))

    @cached_property
    def _encoded(self) -> tuple[EncodedVideos, Encoder]:
        """The features of the videos, and the encoder that made them."""
        wanted = self._encoder and EncoderName.parse(self._encoder).text
        for encoded in encoded_videos(self.collection):
            # Of an encoder that was named, those of a collection that has grown are computed anew.
            if wanted not in (None, encoded.encoder, encoded.space) or not encoded.takes_texts:
                continue
            if wanted is not None and wanted == encoded.encoder and not _has_all(encoded.store, self.collection):
                continue
            (loaded,) = load_encoders([encoded.encoder], self._device).values()
            if isinstance(loaded, TextEncoder):
                return encoded, loaded
        if self._encoder is not None:
            return encode_collection(
                self.collection,
                self._encoder,
                device=self._device,
                workers=self._workers,
                needs_texts=True,
                reporter=self._reporter,
            )
        raise InputError(
            f"{printable(self.collection.source)} has no features of a model of pictures (or sounds) and texts; "
            f"--encoder clip={_EXAMPLE} computes them once, for all further searches",
            option="encoder",
        )


def search_texts(
    collection: Collection, texts: Sequence[str], *, encoder: str | None = None, device: str = "auto"
) -> tuple[str, NDArray[np.float32]]:
    """
    Compare all videos of a collection with texts.

    Parameters
    ----------
    collection, encoder, device
        See `TextSearch`.
    texts : sequence of str
        The texts.

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
    search = TextSearch(collection, encoder, device=device)
    return search.encoder, search.similarities(texts)


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
