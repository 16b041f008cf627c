"""Texts beside videos, in the space of an encoder that takes both: search by a text, and words as classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoded_videos import (
    EXAMPLE,
    EncodedVideos,
    encode_collection,
    encode_files,
    encoded_videos,
    has_all,
    with_texts,
)
from backbones.encoders.encoder import Encoder, TextEncoder
from backbones.encoders.registry import EncoderName, load_encoders
from selavi_ref.api.naming import ClassProbabilities, class_probabilities
from selavi_ref.browser.collection import Collection
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.store import FeatureStore

# What `selavi_ref.api` calls on this module.
__all__ = [
    "TextSearch",
    "class_probabilities_of",
    "encode_files",
    "encoded_videos",
    "search_texts",
    "text_similarities",
]


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
        of_texts = _normalized(with_texts(encoded.encoder, encoder).encode_text(texts))
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # the libraries raise anything
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"--encoder {encoded.encoder}: texts cannot be encoded: {why}", option="encoder") from error
    with FeatureStore(encoded.store) as store:
        similarities: NDArray[np.float32] = _normalized(store.features(encoded.space)) @ of_texts.T
    return similarities


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
            if wanted is not None and wanted == encoded.encoder and not has_all(encoded.store, self.collection):
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
            f"--encoder clip={EXAMPLE} computes them once, for all further searches",
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
        length: NDArray[np.float32] = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))
        return x / length
