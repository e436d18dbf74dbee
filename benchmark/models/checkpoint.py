"""Third-party models: whatever a specification names, loaded, looked at, and ready to be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.models import _downloads, _of_code, _of_file, _of_library, _of_zoo
from benchmark.models._code_spec import CodeSpec
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError
from benchmark.models.spec import FileSpec, LibrarySpec, Spec, ZooSpec

# each with `load(spec, shape) -> (module, sha256)` and `facts(spec)`
_LOADERS: Mapping[type, ModuleType] = {
    FileSpec: _of_file,
    ZooSpec: _of_zoo,
    LibrarySpec: _of_library,
    CodeSpec: _of_code,
}


@dataclass(frozen=True)
class Loaded:
    """A third party's model in eval mode, images in [0, 1] -> logits, and the sha256 of its weights.

    The weights are its file (of several files: their digests joined with "+"), or the parameters that the user's
    function gave it.
    """

    model: nn.Module
    sha256: str
    spec: Spec


def load(spec: Spec, *, channels: int, classes: int, size: int) -> Loaded:
    """The model of a spec for images of this kind.

    Raises ModelError, one line that names the file.
    """
    place = spec.path if isinstance(spec, FileSpec | CodeSpec) else spec.text
    shape = Shape(channels, classes, size)
    try:
        model, sha256 = _LOADERS[type(spec)].load(spec, shape)
        check_outputs(model.eval(), shape)
    except ModelError as error:
        # names in a file may hold anything, line breaks too
        raise ModelError(" ".join(f"{place}: {error}".split())) from None
    return Loaded(model, sha256, spec)


def facts(spec: Spec) -> Any:
    """What a third party's model depends on beside its weights, wherever its file lies."""
    return _LOADERS[type(spec)].facts(spec)


@torch.no_grad()
def check_outputs(model: nn.Module, shape: Shape) -> None:
    """ModelError unless an image of the data set leads to one logit for each of its classes."""
    image = torch.full((1, shape.channels, shape.size, shape.size), 0.5)
    what = f"images of {shape.channels}x{shape.size}x{shape.size}"
    try:
        logits = model(image)
    except (
        Exception
    ) as error:  # whatever a network of somebody else's does with an image it was not made for
        raise ModelError(f"does not take {what} ({_downloads.reason(error)})") from None
    if not isinstance(logits, Tensor) or logits.shape != (1, shape.classes):
        came = (
            f"shape {tuple(logits.shape)}"
            if isinstance(logits, Tensor)
            else f"type {type(logits).__name__}"
        )
        raise ModelError(
            f"gives an output of {came} for one of the {what}; "
            f"the data set's {shape.classes} classes need (1, {shape.classes})"
        )
