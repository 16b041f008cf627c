"""``python -m selavi_ref.transport``: label the rows of a score matrix in a file."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from selavi_ref.errors import InputError, SelaviError
from selavi_ref.transport import Assignment, Blocks, assign, marginals
from selavi_ref.transport.engines import names
from selavi_ref.transport.solve import METHODS

_EXAMPLES = """
\b
Examples:
  python -m selavi_ref.transport scores.npy --out labels.npy
  python -m selavi_ref.transport scores.h5 --dataset logits --sizes zipf --strength 20
  python -m selavi_ref.transport features.h5 --head 0 --rounding exact --out labels.csv
  python -m selavi_ref.transport scores.npy --sizes sizes.txt --marginal-penalty 2
"""


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dataset", help="Data set of an HDF5 file that holds the scores (N, K).")
@click.option("--head", help="Head of a feature store, whose log-probabilities are summed over modalities.")
@click.option("--sizes", default="uniform", show_default=True, help="uniform, gaussian, zipf, or a file of K sizes.")
@click.option("--seed", type=int, help="Seed of the gaussian sizes; 0 by default.")
@click.option(
    "--strength",
    type=float,
    default=10.0,
    show_default=True,
    help="Factor of the scores: 1 / reg of POT, lambda / 2 of the paper.",
)
@click.option("--marginal-penalty", type=float, help="Price of missing the sizes, if they are only a guess.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=".npy of N weights.")
@click.option("--rounding", type=click.Choice(["argmax", "exact"]), default="argmax", show_default=True)
@click.option("--tol", type=float, help="L1 error of the cluster sizes as fractions; 1e-6 by default.")
@click.option("--max-passes", type=int, help="Passes over the data at most; 2,000 by default.")
@click.option("--method", type=click.Choice(list(METHODS)), default="auto", show_default=True)
@click.option("--engine", default="auto", show_default=True, help=f"auto, {', '.join(names())}.")
@click.option("--published", is_flag=True, help="Run the published algorithm instead.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Labels: .npy, .csv or .h5.")
def main(file: Path, out: Path | None, sizes: str, seed: int | None, rounding: str, **options: Any) -> None:
    """Label the rows of FILE (.npy, or .h5) by optimal transport to clusters of prescribed sizes.

    FILE holds scores, such as log-probabilities, of shape (N, K). It may be larger than the memory.
    """
    try:
        with ExitStack() as stack:
            _check(out, rounding, options["published"], sizes, seed)
            scores = _open(file, options.pop("dataset"), options.pop("head"), stack)
            N, K = scores.shape
            marginal = marginals.make(sizes, K, N, np.random.default_rng(seed or 0))
            weights = options.pop("weights")
            if weights is not None:
                options["sample_weight"] = _load(weights)
            result, seconds = _timed(scores, marginal, **options)
            _print_result(f"{N:,} rows, {K:,} clusters", result, marginal, seconds)
            if rounding == "exact":
                warm = {**options, "potentials": result.potentials}
                result, seconds = _timed(scores, marginal, rounding="exact", **warm)
                _print_exact(result, seconds)
            if out is not None:
                _WRITERS[out.suffix](out, result)
                click.echo(f"labels written to {out}")
    except (SelaviError, OSError, ValueError) as error:
        click.echo(f"Error: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    sys.exit(0 if result.converged else 1)


def _check(out: Path | None, rounding: str, published: bool, sizes: str, seed: int | None) -> None:
    """Refuse options that contradict each other, before any work is done."""
    if out is not None and out.suffix not in _WRITERS:
        raise click.BadParameter(f"{out} must end in {', '.join(_WRITERS)}", param_hint="--out")
    if out is not None and not out.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {out.absolute().parent}", param_hint="--out")
    if rounding == "exact" and published:
        raise click.BadParameter("the published algorithm rounds by argmax", param_hint="--rounding")
    if seed is not None and sizes != "gaussian":
        raise click.BadParameter("only gaussian sizes are drawn", param_hint="--seed")


def _open(file: Path, dataset: str | None, head: str | None, stack: ExitStack) -> Any:
    """Return the scores in a file, mapped or as blocks."""
    if file.suffix not in _READ:
        raise InputError(f"{file} must end in {', '.join(_READ)}")
    if dataset is not None and head is not None:
        raise click.BadParameter("give a data set or a head, not both", param_hint="--head")
    if file.suffix == ".npy":
        if dataset is not None or head is not None:
            raise click.BadParameter("only HDF5 files have them", param_hint="--dataset or --head")
        return _blocks(file, _load(file))
    import h5py

    from selavi_ref.store import FeatureStore
    from selavi_ref.transport.store_scores import joint_scores

    if head is not None:
        store = stack.enter_context(FeatureStore(file))
        if head not in store.heads:
            raise click.BadParameter(f"{file} has no head {head}; it has {', '.join(store.heads)}", param_hint="--head")
        return joint_scores(store, head)
    try:
        opened = stack.enter_context(h5py.File(file, "r"))
    except OSError as error:
        raise InputError(f"{file} cannot be read as an HDF5 file: {error}") from None
    matrices: list[str] = []
    opened.visititems(lambda name, item: matrices.append(name) if getattr(item, "ndim", 0) == 2 else None)
    if dataset is None and len(matrices) == 1:
        dataset = matrices[0]
    if dataset is None or dataset not in opened:
        problem = "name the data set of the scores" if dataset is None else f"{file} has no data set {dataset!r}"
        known = ", ".join(matrices) or "none of two dimensions"
        raise click.BadParameter(f"{problem}; it has {known}", param_hint="--dataset")
    return _blocks(file, opened[dataset])


def _blocks(file: Path, source: Any) -> Blocks:
    try:
        return Blocks(source)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _load(file: Path) -> Any:
    """Map the array in a ``.npy`` file."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a NumPy array: {error}") from None


def _timed(scores: Any, marginal: Any, **options: Any) -> tuple[Assignment, float]:
    start = time.perf_counter()
    result = assign(scores, marginal, **options)
    return result, time.perf_counter() - start


def _print_result(size: str, result: Assignment, marginal: Any, seconds: float) -> None:
    count = np.bincount(result.labels, minlength=len(marginal))
    click.echo(f"{size}: {result.n_passes} passes in {seconds:.2f} s")
    click.echo(f"error of the sizes {result.marginal_error:.2e}, value {result.value:.8g}, cost {result.cost:.6g}")
    click.echo(
        f"labels per cluster {count.min():,} to {count.max():,}, target {marginal.min() * len(result.labels):,.1f}"
        f" to {marginal.max() * len(result.labels):,.1f}; total score {-2 * result.cost * len(result.labels):.8g}"
    )


def _print_exact(result: Assignment, seconds: float) -> None:
    count = np.bincount(result.labels, minlength=len(result.mass))
    total = -2 * result.cost * len(result.labels)
    click.echo(
        f"exact sizes in another {seconds:.2f} s: {count.min():,} to {count.max():,} labels per cluster,"
        f" total score {total:.8g}"
    )


def _write_npy(path: Path, result: Assignment) -> None:
    np.save(path, result.labels)


def _write_csv(path: Path, result: Assignment) -> None:
    rows = np.column_stack([np.arange(len(result.labels)), result.labels, result.confidence])
    np.savetxt(path, rows, fmt=["%d", "%d", "%.6g"], delimiter=",", header="row,label,confidence", comments="")


def _write_h5(path: Path, result: Assignment) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name in ("labels", "confidence", "potentials", "mass"):
            file[name] = getattr(result, name)
        file.attrs["marginal_error"] = result.marginal_error
        file.attrs["converged"] = result.converged


_READ = (".npy", ".h5", ".hdf5")
_WRITERS = {".npy": _write_npy, ".csv": _write_csv, ".h5": _write_h5}

if __name__ == "__main__":
    main(prog_name="python -m selavi_ref.transport")
