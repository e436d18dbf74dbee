"""Somebody's weights in an architecture of ours or a network of the user's own, behind a normalisation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmark import keys
from benchmark.models import _files, _of_code, _state
from benchmark.models._code_spec import CodeSpec
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, Normalised, build
from benchmark.models.spec import FileSpec


def load(spec: FileSpec, shape: Shape) -> tuple[nn.Module, str]:
    """The model, and the sha256 of its file. Without mean and std the images go in as they are."""
    found, digest = _files.load(spec.path, spec.sha256)
    mean = per_channel(spec.mean or (0.0,), shape.channels, "mean")
    std = per_channel(spec.std or (1.0,), shape.channels, "std")
    if spec.code:
        model = Normalised(_own(spec.code), mean, std)
    else:
        model = build(
            spec.architecture, channels=shape.channels, classes=shape.classes, size=shape.size,
            mean=mean, std=std, activation=spec.activation, **dict(spec.options),
            seed=0,  # every weight is replaced
        )  # fmt: skip
    state = _state.parameters(found, spec.key, spec.ignore, model.net.state_dict())
    _state.fill(model.net, state, spec.architecture)
    return model, digest


def _own(code: CodeSpec) -> nn.Module:
    """The network of the user's own code, its weights yet to come."""
    try:
        return _of_code.made(code)
    except ModelError as error:
        raise ModelError(f"{code.path}: {error}") from error


def facts(spec: FileSpec) -> Any:
    """What is done with the weights, and by which code."""
    named = "" if spec.code else spec.architecture
    anywhere = asdict(replace(spec, text="", path=Path(), sha256="", architecture=named, code=None))
    # whose they are changes nothing
    own = {k: v for k, v in anywhere.items() if k not in ("licence", "source", "code")}
    return [own, _of_code.facts(spec.code) if spec.code else keys.network_code(spec.architecture)]


def per_channel(numbers: tuple[float, ...], channels: int, what: str) -> tuple[float, ...]:
    """One number for each channel; one number stands for all of them."""
    if len(numbers) not in (1, channels):
        raise ModelError(f"{what} has {len(numbers)} numbers, the images have {channels} channels")
    return numbers * channels if len(numbers) == 1 else numbers
