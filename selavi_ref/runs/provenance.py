"""The origin of a feature store: the run and the settings that produced it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from selavi_ref.errors import InputError, printable
from selavi_ref.runs.old_names import with_current_names
from selavi_ref.store import FeatureStore


@dataclass(frozen=True)
class Provenance:
    """
    Origin of a feature store, written as JSON into the store; a field that does not apply is left out.

    Parameters
    ----------
    run : str
        Folder of the run whose networks or heads produced the store.
    store : str
        Store whose features the heads were applied to.
    epoch : int
        Complete epochs of the run.
    settings : mapping
        Settings of the run, under today's names.
    video_net, audio_net : str
        Names of its networks.
    strength : float
        Strength of the optimal transport.
    clips, crops, frames : int
        Clips of each video, crops of each clip, and frames of each clip.
    pool : str
        Pooling of feature maps.
    degradation : mapping
        How videos were degraded before the networks saw them.
    reference : int
        See `selavi_ref.ensemble.consensus.HeadConsensus`.
    agreement : tuple of float
        See `selavi_ref.ensemble.consensus.HeadConsensus`.
    search : mapping
        What the search of cross-fitted heads chose, see `selavi_ref.crossfit.search.SearchSummary`.
    versions : mapping of str to str
        Versions of the packages.
    """

    run: str | None = None
    store: str | None = None
    epoch: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    video_net: str | None = None
    audio_net: str | None = None
    strength: float | None = None
    clips: int | None = None
    crops: int | None = None
    frames: int | None = None
    pool: str | None = None
    degradation: Mapping[str, Any] = field(default_factory=dict)
    reference: int | None = None
    agreement: tuple[float, ...] | None = None
    search: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that apply."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value != {}}

    @classmethod
    def of(cls, store: FeatureStore) -> Provenance:
        """
        Read the provenance of a store; see `from_dict`.

        Raises
        ------
        InputError
            If a field is of another type.
        """
        try:
            return cls.from_dict(store.provenance)
        except InputError as error:
            raise InputError(f"{printable(store.path)}: {error}", path=store.path, option=error.option) from error

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """
        Read the fields of a mapping, such as that of a store of version 0.1.0; unknown ones are ignored.

        Raises
        ------
        InputError
            If a field is of another type.
        """
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{name: _READERS[name](name, value) for name, value in known.items()})


def _text(name: str, value: Any) -> str:
    return _require(isinstance(value, str), name, value, "text")


def _count(name: str, value: Any) -> int:
    return _require(type(value) is int, name, value, "a whole number")


def _number(name: str, value: Any) -> float:
    return float(_require(isinstance(value, (int, float)) and not isinstance(value, bool), name, value, "a number"))


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    return tuple(_number(name, item) for item in _require(isinstance(value, (list, tuple)), name, value, "a list"))


def _table(name: str, value: Any) -> dict[str, Any]:
    return with_current_names(_require(isinstance(value, Mapping), name, value, "a table"))


def _require(fits: bool, name: str, value: Any, kind: str) -> Any:
    if not fits:
        raise InputError(f"{name} in the provenance must be {kind}, not {value!r:.60}", option=name, value=value)
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("run", "store", "video_net", "audio_net", "pool"), _text),
    **dict.fromkeys(("epoch", "clips", "crops", "frames", "reference"), _count),
    **dict.fromkeys(("settings", "degradation", "search", "versions"), _table),
    "strength": _number,
    "agreement": _numbers,
}
