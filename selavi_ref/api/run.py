"""A run from Python: its labels, features, predictions for other videos, and diagnostics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.applying import apply_run
from selavi_ref.api.checking import check_labels
from selavi_ref.api.exporting import export
from selavi_ref.api.naming import ClassProbabilities, NamedClusters, propose_names, stored_class_probabilities
from selavi_ref.api.neighbours import find_neighbours
from selavi_ref.api.predictions import Predictions, label_features, predictions, to_pandas
from selavi_ref.api.progress import choose_reporter
from selavi_ref.api.searching import find_by_text
from selavi_ref.api.timelines import label_timelines
from selavi_ref.api.updating import Update, update_run
from selavi_ref.api.video_runs import Videos
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.browser.collection import Collection, open_collection
from selavi_ref.browser.final_labels import final_labels
from selavi_ref.browser.store_labels import StoredLabels
from selavi_ref.diagnostics.check import Report
from selavi_ref.ensemble.label_table import read_truths
from selavi_ref.errors import FilePath, InputError
from selavi_ref.heads.any_run import learnt_store
from selavi_ref.metrics import summary
from selavi_ref.report.export import FinalLabels
from selavi_ref.report.table import Table
from selavi_ref.runs.reporter import Reporter
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.runs.run import RunKind
from selavi_ref.store import FeatureStore
from selavi_ref.timeline.stretches import Timeline


class Run:
    """
    A finished run of `selavi train` or `selavi train-heads`; open one with `Run.open`, or make one with `label_videos`.

    Labels and names are those that a person has left on the page of ``selavi browse``, and follow its edits.

    Attributes
    ----------
    folder : Path
        Folder of the run.

    Examples
    --------
    >>> from selavi_ref import Run
    >>> run = Run.open("run")  # doctest: +SKIP
    >>> run.predict("more_videos").to_pandas()  # doctest: +SKIP
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self._state: list[int] = []
        self._final: FinalLabels | None = None

    @classmethod
    def open(cls, path: FilePath) -> Run:
        """
        Open the run in a folder.

        Raises
        ------
        InputError
            If there is no run, or it labels no videos.
        """
        run = RunFolder.open(path)
        if run.kind is RunKind.FINETUNE:
            raise InputError(f"{run.folder} is no run that labels videos, but one of selavi {run.kind}", path=path)
        return cls(run)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self._folder.folder

    @property
    def contact_sheet(self) -> Path:
        """Picture of the most typical videos of each cluster, of a run on videos."""
        return self._folder.sheet_file

    @property
    def paths(self) -> list[str]:
        """Path of each of the N videos."""
        return list(self._labels().paths)

    @property
    def labels(self) -> NDArray[np.int32]:
        """Cluster of each video, int32, shape (N,); -1 without a label."""
        return self._labels().cluster

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Posterior of each video's cluster as learnt, float32, shape (N,); 0 without a label."""
        return self._labels().confidence

    @property
    def names(self) -> dict[int, str]:
        """Names of clusters that a person has given."""
        return dict(annotations_of(self._folder).read().edits_of("consensus").names)

    def __len__(self) -> int:
        return len(self._labels().paths)

    def __repr__(self) -> str:
        return f"Run.open({os.fspath(self.folder)!r})"

    def to_pandas(self) -> Any:
        """
        Return labels, names, confidence and more of all videos as a ``pandas.DataFrame``, as `selavi export` writes it.

        Raises
        ------
        SelaviError
            If pandas is not installed.
        """
        return to_pandas(self._labels().table)

    def features(self, modality: str) -> NDArray[np.float32]:
        """
        Return features of all videos, float32, shape (N, D); NaN where a video lacks the modality.

        Parameters
        ----------
        modality : str
            ``"video"`` or ``"audio"``; in a run of heads on features, a feature space of its store.

        Raises
        ------
        StoreError
            If there are none of this name, or the run is not finished.
        """
        heads = self._folder.kind is RunKind.HEADS
        with FeatureStore(learnt_store(self._folder) if heads else self._folder.features_file) as store:
            return store.features(modality)

    def predict(
        self,
        videos: Videos | Mapping[str, Any],
        *,
        head: str = "consensus",
        balanced: bool = False,
        clips: int | None = None,
        crops: int = 1,
        device: str = "auto",
        workers: int | None = None,
        reporter: Reporter | None = None,
        segments: str | float | None = None,
        types: Sequence[str] | None = None,
        progress: bool = False,
    ) -> Predictions:
        """
        Label videos, seen in training or not.

        Parameters
        ----------
        videos : path, sequence of paths, Manifest, or mapping
            A folder, a list file or paths of videos. A run of heads on features also takes a store of features by the
            same models, or a mapping of each feature space to an array of shape (N, D); and files only if its features
            are those of encoders.
        head : str
            ``"consensus"``: the labels of the run, by cross-fitting or by all heads; ``"heads"``: by all heads;
            ``"best"``: by the head that agrees most with the others; or a head's number.
        balanced : bool
            Keep clusters near the sizes that were prescribed in training.
        clips, crops : int
            Clips of each video, and crops of each clip, whose predictions are averaged; by default 3 clips if the run
            has cross-fitted final labels, or 1.
        segments : str or float, optional
            How videos are cut: ``"whole"``, ``"scenes"``, seconds of a segment, or ``"auto"``: those of more than a
            minute into segments of 10 s; by default as those that the run has learnt from.
        types : sequence of str, optional
            Types of files of a folder to take, such as ``["videos", "sounds"]``; by default those that the run has.
        device, workers, reporter, progress
            See `label_videos`.

        Returns
        -------
        Predictions
            In the order of the videos; a video that cannot be decoded has the label -1.

        Raises
        ------
        InputError
            If there are no videos, the features do not fit, or the run can use no files of such types.
        """
        reporter = choose_reporter(reporter, progress)
        # Read before the long work, so that damaged annotations are refused at once.
        annotations = annotations_of(self._folder).read()
        with TemporaryDirectory(prefix="selavi-predict-") as temporary:
            store = Path(temporary) / "features.h5"
            apply_run(
                self._folder,
                videos,
                store,
                clips=clips,
                crops=crops,
                segments=segments,
                types=types,
                device=device,
                workers=workers,
                reporter=reporter,
            )
            return predictions(*label_features(store, head=head, balanced=balanced, annotations=annotations))

    def timelines(self, videos: Videos, **options: Any) -> list[Timeline]:
        """Label videos over time: stretches of one label; see `selavi_ref.api.timelines.label_timelines`."""
        return label_timelines(self.folder, videos, **options)

    def update(
        self, videos: Videos, *, reporter: Reporter | None = None, progress: bool = False, **options: Any
    ) -> Update:
        """
        Bring the run up to date with a collection that has changed: label what is new, and follow what was moved.

        The same as ``selavi update RUN VIDEOS``.

        Parameters
        ----------
        videos : path, sequence of paths, or Manifest
            The collection as it is now.
        reporter, progress
            See `label_videos`.
        **options
            Of `selavi_ref.api.updating.update_run`, such as ``dry_run``, ``learn``, ``epochs`` and ``new_clusters``.

        Returns
        -------
        Update
            The changes, and labels of the new videos.
        """
        return update_run(self.folder, videos, reporter=choose_reporter(reporter, progress), **options)

    def neighbours(self, videos: Videos, n: int = 10, **options: Any) -> Table:
        """Return the files of the run that are nearest to others; see `selavi_ref.api.neighbours.find_neighbours`."""
        return find_neighbours(self._folder, videos, n, **options)

    def search(self, texts: str | Sequence[str], n: int = 10, **options: Any) -> Table:
        """Return the videos that are most similar to texts; see `selavi_ref.api.searching.find_by_text`."""
        with self._collection() as collection:
            return find_by_text(collection, texts, n, **options)

    def check(
        self,
        *,
        reporter: Reporter | None = None,
        progress: bool = False,
        other: Run | FilePath | None = None,
        **options: Any,
    ) -> Report:
        """
        Check how far the labels as learnt can be trusted, without true labels.

        Parameters
        ----------
        reporter, progress
            See `label_videos`.
        other : Run or path, optional
            A run with another seed, or its table of labels, to compare with.
        **options
            Of `selavi_ref.api.checking.check_labels`, such as ``clips`` and ``files``.

        Returns
        -------
        Report
            ``findings``, ``verdict``, and a table of suspicious ``videos``; it is also written to ``check`` in the run.
        """
        if isinstance(other, Run):
            other = other.folder
        return check_labels(self.folder, other=other, reporter=choose_reporter(reporter, progress), **options)

    def evaluate(self, truth: FilePath | Sequence[str] | None = None) -> dict[str, float | int]:
        """
        Compare the labels with true classes.

        Parameters
        ----------
        truth : path or sequence of str, optional
            CSV with the columns path and class, or the class of each video, "" where unknown; by default the classes
            of the store, or the names of the videos' folders.

        Returns
        -------
        dict
            Scores of `selavi_ref.metrics.summary`, ``videos`` and ``unlabelled``.

        Raises
        ------
        InputError
            If lengths differ, or no video has both a label and a true class.
        """
        final = self._labels()
        if truth is None:
            classes = list(final.classes)
        elif isinstance(truth, (str, os.PathLike)):
            known = read_truths(truth)
            classes = [known.get(path, "") for path in final.paths]
        else:
            classes = [str(true) for true in truth]
        if len(classes) != len(final.paths):
            raise InputError(
                f"{len(classes)} classes were given for {len(final.paths)} videos", option="truth", value=len(classes)
            )
        pairs = [(true, k) for true, k in zip(classes, final.cluster.tolist(), strict=True) if true and k >= 0]
        if not pairs:
            raise InputError(
                f"{self.folder}: no video has both a label and a true class; give truth",
                option="truth",
                path=self.folder,
            )
        counts = {"videos": len(final.paths), "unlabelled": int((final.cluster < 0).sum())}
        return counts | summary(*map(list, zip(*pairs, strict=True)))

    def propose_names(
        self,
        *,
        classes: Sequence[ClassProbabilities] | None = None,
        accept: float | None = None,
        reporter: Reporter | None = None,
        progress: bool = False,
        **options: Any,
    ) -> NamedClusters:
        """
        Propose names for the clusters, and save the proposals, which the page of ``selavi browse`` shows.

        Parameters
        ----------
        classes : sequence of ClassProbabilities, optional
            Propose the classes that are more probable in a cluster than elsewhere; by default those in the store that
            the run has learnt from.
        accept : float, optional
            Name each nameless cluster by its best proposal, if the score is at least this; without it, none is named.
            No name is ever replaced.
        reporter, progress
            See `label_videos`.
        **options
            Of `selavi_ref.api.naming.propose_names`: ``files``, ``program``, ``seconds``.

        Returns
        -------
        NamedClusters
            ``proposals``, the ``names`` that clusters have now, and those of them that were ``accepted``.
        """
        classes = stored_class_probabilities(self._folder) if classes is None else classes
        reporter = choose_reporter(reporter, progress)
        with self._collection() as collection:
            return propose_names(collection, classes=classes, accept=accept, reporter=reporter, **options)

    def export(self, form: str, out: FilePath, *, copy: bool = False, force: bool = False) -> int:
        """
        Write the labels, with all edits, for another program, and return the number of videos that have one.

        Parameters
        ----------
        form : str
            ``"fiftyone"``, ``"label-studio"``, ``"cvat"``, ``"coco"``, ``"videofolder"`` or ``"webdataset"``.
        out : path
            The file (label-studio, coco) or folder.
        copy, force : bool
            See `selavi_ref.api.exporting.export`.

        Raises
        ------
        InputError
            If there is no such form, something must not be replaced, or no video exists where the form holds videos.
        """
        with self._collection() as collection:
            return export(collection, form, out, copy=copy, force=force)

    @contextmanager
    def _collection(self) -> Iterator[Collection]:
        """Open the run as the page shows it, and close its store at the end."""
        collection = open_collection(self.folder)
        try:
            yield collection
        finally:
            if isinstance(collection.labels, StoredLabels):
                collection.labels.store.close()

    def _labels(self) -> FinalLabels:
        """Return the labels after all edits, computed again when a file has changed."""
        files = (self._folder.features_file, self._folder.labels_file, self._folder.annotations_file)
        state = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        if self._final is None or state != self._state:
            with self._collection() as collection:
                self._final, self._state = final_labels(collection), state
        return self._final
