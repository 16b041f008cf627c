"""Encoders by name: models of other libraries, and those that installed packages offer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import PurePath

from backbones.encoders.encoder import Encoder
from selavi_ref.errors import InputError
from selavi_ref.install_hints import install_command

GROUP = "selavi.encoders"

# Name of a library -> module of `backbones.encoders` with a function `load`, and the extra that installs what it needs.
_LIBRARIES = {
    "logmel": ("logmel", "video"),
    "efficientnet-lite0": ("efficientnet_lite", "efficientnet"),
    "torchvision": ("torchvision_models", "train"),
    "timm": ("timm_models", "timm"),
    "transformers": ("transformers_models", "transformers"),
    "open_clip": ("open_clip_models", "open-clip"),
}
_NETWORK_ERRORS = {
    *("URLError", "gaierror", "ConnectionError", "ConnectError", "LocalEntryNotFoundError", "OfflineModeIsEnabled")
}
_WITHOUT_MODEL = ("logmel", "efficientnet-lite0")
_WITHOUT_TEXTS = (*_WITHOUT_MODEL, "torchvision", "timm")


@dataclass(frozen=True)
class EncoderName:
    """
    The parts of what ``--encoder`` is called with: ``[SPACE=]LIBRARY[:MODEL][@WEIGHTS]``.

    Parameters
    ----------
    text : str
        The whole, without SPACE.
    space : str
        Name of the feature space in the store; without SPACE the last part of MODEL, or LIBRARY.
    library, model, weights : str
        "" where not given.
    """

    text: str
    space: str
    library: str
    model: str
    weights: str

    @classmethod
    def parse(cls, text: str) -> EncoderName:
        """Split a name into its parts."""
        space, equals, rest = text.partition("=")
        if not equals or any(mark in space for mark in ":@/"):
            space, rest = "", text
        name, _, weights = rest.partition("@")
        library, _, model = name.partition(":")
        return cls(rest, space or PurePath(model.rpartition(":")[2]).name or library, library, model, weights)


def load_encoders(names: Sequence[str], device: str = "auto") -> dict[str, Encoder]:
    """
    Load encoders by name.

    Parameters
    ----------
    names : sequence of str
        Each ``[SPACE=]LIBRARY:MODEL[@WEIGHTS]``, such as ``torchvision:resnet18``,
        ``clip=transformers:openai/clip-vit-base-patch32``, ``timm:resnet50@weights.safetensors``, or ``logmel``.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    dict of str to Encoder
        By the name of their feature space.

    Raises
    ------
    InputError
        A name that nobody knows or twice the same feature space, a package that is missing, or weights that cannot be
        loaded.
    """
    parsed = [EncoderName.parse(text) for text in names]
    spaces = [name.space for name in parsed]
    for space in spaces:
        if spaces.count(space) > 1:
            raise InputError(f"two encoders are called {space!r}; give one another name: NAME=ENCODER", value=space)
    loaders = [_loader(name) for name in parsed]
    return {name.space: _load(name, loader, device) for name, loader in zip(parsed, loaders, strict=True)}


def known_libraries() -> list[str]:
    """Return what an encoder's name may begin with, sorted."""
    return sorted({*_LIBRARIES, *(point.name for point in entry_points(group=GROUP))})


def may_take_texts(name: str) -> bool:
    """Return whether an encoder of this name may take texts; only loading it tells whether it does."""
    return EncoderName.parse(name).library not in _WITHOUT_TEXTS


_Loader = Callable[[str, str, str], Encoder]


def _loader(name: EncoderName) -> _Loader:
    """Return the function that loads encoders of a library, which takes model, weights and device."""
    if name.library in _LIBRARIES:
        module, extra = _LIBRARIES[name.library]
        if bool(name.model) == (name.library in _WITHOUT_MODEL):
            form = name.library if name.library in _WITHOUT_MODEL else f"{name.library}:MODEL"
            raise InputError(f"--encoder {name.text}: write {form}", option="encoder", value=name.text)
        try:
            load: _Loader = import_module(f"backbones.encoders.{module}").load
        except ModuleNotFoundError as error:
            raise InputError(
                f"--encoder {name.text} needs the package {error.name}; install it with: {install_command(extra)}",
                option="encoder",
                value=name.text,
            ) from error
        return load
    for point in entry_points(group=GROUP, name=name.library):
        try:
            foreign: _Loader = point.load()
        except Exception as error:  # another package may raise anything when it is imported
            raise InputError(
                f"entry point {point.name!r} of {GROUP} ({point.value}) cannot be loaded: {_line(error)}",
                option="encoder",
                value=name.text,
            ) from error
        return foreign
    raise InputError(
        f"--encoder {name.text}: there is no {name.library!r}; known are: {', '.join(known_libraries())}",
        option="encoder",
        value=name.text,
    )


def _load(name: EncoderName, loader: _Loader, device: str) -> Encoder:
    level = logging.root.manager.disable
    logging.disable()  # the libraries log what the error says once more
    try:
        encoder = loader(name.model, name.weights, device)
    except InputError as error:
        raise InputError(f"--encoder {name.text}: {error}", option="encoder", value=name.text) from error
    except Exception as error:  # the libraries raise anything when a name, a file or the network is missing
        why = f"cannot be loaded: {_line(error)}"
        if _is_of_network(error):
            why = (
                "its weights are not on this machine, and cannot be fetched (no network); where there is one, the same "
                "command fetches them; or name their file or folder: ...@PATH"
            )
        raise InputError(f"--encoder {name.text}: {why}", option="encoder", value=name.text) from error
    finally:
        logging.disable(level)
    encoder.name = name.text
    return encoder


def _line(error: BaseException) -> str:
    """Return type and first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _is_of_network(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, is that of a connection."""
    while error is not None:
        if {kind.__name__ for kind in type(error).__mro__} & _NETWORK_ERRORS:
            return True
        error = error.__cause__ or error.__context__
    return False
