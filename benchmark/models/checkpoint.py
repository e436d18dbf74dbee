"""Third-party weights put into our architectures: unwrapped, checked name by name, behind a normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmark.models import _files
from benchmark.models.base import ModelError, Normalised, build
from benchmark.models.spec import Spec

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.", "net.")


@dataclass(frozen=True)
class Loaded:
    """A model from a file, in eval mode, and the sha256 of the file."""

    model: Normalised
    sha256: str
    spec: Spec


def load(spec: Spec, *, channels: int, classes: int, size: int) -> Loaded:
    """The model of a spec for images of this kind. Without mean and std the images go in as they are.

    Raises ModelError, one line that names the file.
    """
    try:
        content = _files.content(spec.path)
        state = _state(_files.read(spec.path, content), spec.key, spec.ignore)
        model = build(
            spec.architecture,
            channels=channels,
            classes=classes,
            size=size,
            mean=_per_channel(spec.mean or (0.0,), channels, "mean"),
            std=_per_channel(spec.std or (1.0,), channels, "std"),
            seed=0,  # every weight is replaced
            activation=spec.activation,
            **dict(spec.options),
        )
        _fill(model, state, spec.architecture)
    except ModelError as error:
        # names in a file may hold anything, line breaks too
        raise ModelError(" ".join(f"{spec.path}: {error}".split())) from None
    return Loaded(model.eval(), hashlib.sha256(content).hexdigest(), spec)


def _per_channel(numbers: tuple[float, ...], channels: int, what: str) -> tuple[float, ...]:
    if len(numbers) not in (1, channels):
        raise ModelError(f"{what} has {len(numbers)} numbers, the images have {channels} channels")
    return numbers * channels if len(numbers) == 1 else numbers


def _state(loaded: object, key: tuple[str, ...], ignore: tuple[str, ...]) -> dict[str, Tensor]:
    """The parameters in the loaded object, by name."""
    found = _follow(loaded, key) if key else _unwrap(loaded)
    if not isinstance(found, Mapping):
        raise ModelError(f"holds no parameters by name but a {_kind(found)}; name them with key=")
    named = {str(name): value for name, value in found.items()}
    state = {name: value for name, value in named.items() if name.rpartition(".")[2] not in ignore}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            keys = ", ".join(map(str, list(found)[:5]))
            raise ModelError(
                f"entry {name!r} is a {_kind(value)}, not a tensor; entries: {keys}; name one with key="
            )
    if not state:
        raise ModelError("holds no parameters")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _follow(found: object, key: tuple[str, ...]) -> object:
    for depth, part in enumerate(key):
        place = f" at {'.'.join(key[:depth])!r}" if depth else ""
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise ModelError(
                f"key={'.'.join(key)}: there is no {part!r}{place}, which is a {_kind(found)}"
            )
    return found


def _unwrap(found: object) -> object:
    """Out of the usual wrappers: {"state_dict": ...}, a list of one."""
    for _ in range(5):  # a file may hold a mapping that holds itself
        if isinstance(found, Mapping):
            kept = [found[name] for name in _WRAPPERS if name in found]
            inner = [value for value in kept if isinstance(value, Mapping | list | tuple) and value]
            if not inner:
                return found
            found = inner[0]
        elif isinstance(found, list | tuple) and len(found) == 1:
            found = found[0]
        elif isinstance(found, list | tuple):
            raise ModelError(f"holds a {_kind(found)}; name one with key=, as in key=state_dict.0")
        else:
            return found
    raise ModelError("wraps its parameters too deeply; name them with key=")


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"mapping with keys {', '.join(map(str, list(value)[:5]))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _fill(model: Normalised, state: dict[str, Tensor], architecture: str) -> None:
    """Put the parameters into the model, every one of them, all finite."""
    own = model.net.state_dict()
    # a count of batches that old files do not have and inference does not use
    missing = [
        name for name in own if name not in state and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        parts = [f"{what} {', '.join(names[:3])}{', ..' * (len(names) > 3)}" for what, names in
                 (("misses", missing), ("has in excess", unexpected)) if names]  # fmt: skip
        raise ModelError(f"is not a {architecture}: the file {' and '.join(parts)}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            ours, theirs = tuple(own[name].shape), tuple(value.shape)
            raise ModelError(
                f"{name} has shape {theirs} in the file, {ours} in {architecture} for these images"
            )
        if not value.isfinite().all():
            raise ModelError(f"{name} holds NaN or infinite numbers")
    model.net.load_state_dict(state, strict=False)
