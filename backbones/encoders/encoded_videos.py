"""Features that encoders have computed of a collection: where they are, and computing them where they are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backbones.encoders.encoder import Encoder, TextEncoder
from backbones.encoders.extraction import extract_features
from backbones.encoders.registry import EncoderName, load_encoders, may_take_texts
from selavi_ref.browser.collection import Collection
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.errors import FilePath, InputError, SelaviError, printable
from selavi_ref.media.segments import file_of
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore

CLIPS = 3
EXAMPLE = "transformers:openai/clip-vit-base-patch32"


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
        with_texts(name.text, loaded)
    earlier = [found for found in encoded_videos(collection) if found.encoder == name.text]
    for found in earlier:
        if has_all(found.store, collection):
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
        raise SelaviError(f"{printable(folder)} cannot be made: {error.strerror or error}", path=folder) from error
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


def has_all(store: Path, collection: Collection) -> bool:
    """Return whether a store has all videos of a collection."""
    with FeatureStore(store) as opened:
        known = set(opened.paths)
    return all(p in known or file in known for p, file in zip(collection.paths, collection.files, strict=True))


def with_texts(name: str, encoder: Encoder) -> TextEncoder:
    """Return an encoder that takes texts; refuse another one."""
    if not isinstance(encoder, TextEncoder):
        raise InputError(
            f"--encoder {name} takes no texts; choose a model of pictures (or sounds) and texts, such as {EXAMPLE}",
            option="encoder",
            value=name,
        )
    return encoder


def encode_files(
    store: FilePath,
    files: Manifest,
    out: FilePath,
    *,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> None:
    """
    Write the features of any files by the encoders that made a store, so that they can be compared with it.

    Parameters
    ----------
    store : path
        The store.
    files : Manifest
        The files.
    out : path
        The store to write.
    device, workers, reporter
        See `load_encoders` and `extract_features`.

    Raises
    ------
    InputError
        If the store was not made by encoders, or one cannot be loaded.
    """
    with FeatureStore(store) as opened:
        made_by = opened.provenance
        names = {
            space: str(about.get("encoder", ""))
            for space, about in made_by.get("encoders", {}).items()
            if opened.has(f"features/{space}")
        }
    if not names:
        raise InputError(
            f"{printable(store)} was not made by encoders of this program, so that no features of other files can be "
            "computed; compare it with another store of the same models: selavi retrieve STORE QUERIES",
            path=store,
        )
    encoders = load_encoders([f"{space}={name}" for space, name in names.items()], device)
    threads = usable_cores() if workers is None else workers
    extract_features(files, encoders, out, clips=int(made_by.get("clips", CLIPS)), workers=threads, reporter=reporter)
