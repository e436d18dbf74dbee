"""Models of torchvision and timm, with weights that are read by us."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark import vision
from benchmark.models import _downloads, _files, _state, _weights_folder
from benchmark.models._of_file import per_channel
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, Normalised, seeded
from benchmark.models.spec import LibrarySpec


class _Weights(NamedTuple):
    """Weights in a file, and the classes and normalisation that they were trained with."""

    path: Path
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(spec: LibrarySpec, shape: Shape) -> tuple[nn.Module, str]:
    """The model behind its normalisation, and the sha256 of its file.

    With the library's own weights the normalisation is the library's; a file of the user's has none unless it is given.
    """
    find, make = _LIBRARIES[spec.library]
    weights = _Weights(spec.path, shape.classes, (0.0,), (1.0,)) if spec.path else find(spec)
    if weights.classes != shape.classes:
        raise ModelError(
            f"the library's weights are for {weights.classes} classes, the data set has {shape.classes}; "
            "?file=PATH names other weights"
        )
    try:
        found, digest = _files.load(weights.path, spec.sha256)
        net = make(spec.name, _state.parameters(found, spec.key, spec.ignore), shape)
    except ModelError as error:
        raise ModelError(f"{weights.path} {error}") from None
    mean = per_channel(spec.mean or weights.mean, shape.channels, "mean")
    std = per_channel(spec.std or weights.std, shape.channels, "std")
    return Normalised(net, mean, std), digest


def facts(spec: LibrarySpec) -> Any:
    """Which network, how its images are normalised, and the package it is from."""
    return [
        spec.library, spec.name, spec.weights, spec.mean, spec.std, spec.key, spec.ignore,
        *versions(spec.library),
    ]  # fmt: skip


def versions(*packages: str) -> list[str]:
    """The packages with their versions, those that are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found


# --- torchvision


def _torchvision_model(name: str, state: Mapping[str, Tensor], shape: Shape) -> nn.Module:
    """A network of torchvision."""
    models = vision.torchvision().models
    with seeded(0), vision.quiet():  # every weight is replaced
        net: nn.Module = models.get_model(name, weights=None, num_classes=shape.classes)
    _state.fill(net, state, name)
    return net


def _torchvision_weights(spec: LibrarySpec) -> _Weights:
    """The weights by name, or the library's best, in the folder where torchvision itself keeps them."""
    known = vision.torchvision().models.get_model_weights(spec.name)
    if spec.weights and spec.weights not in known.__members__:
        raise ModelError(
            f"torchvision has no weights {spec.weights!r} of it; valid: {', '.join(known.__members__)}"
        )
    chosen = known[spec.weights] if spec.weights else known.DEFAULT
    look = chosen.transforms()
    return _Weights(
        _by_url(chosen.url), len(chosen.meta["categories"]), tuple(look.mean), tuple(look.std)
    )


def _by_url(url: str) -> Path:
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    _downloads.ensure(path, url)
    return path


# --- timm


def timm_model(name: str, state: Mapping[str, Tensor], shape: Shape) -> nn.Module:
    """A network of timm, filled by timm, which renames the parameters of older versions."""
    timm = vision.timm()
    # without a first convolution it could find, timm does not make weights for coloured images fit grey ones
    overlay = {"state_dict": dict(state), "num_classes": shape.classes, "first_conv": None}
    try:
        with seeded(0), vision.quiet():
            model: nn.Module = timm.create_model(
                name, pretrained=True, num_classes=shape.classes, in_chans=shape.channels,
                pretrained_cfg_overlay=overlay,
            )  # fmt: skip
    except Exception as error:  # whatever timm does with weights that are not the network's
        raise ModelError(
            f"is not a {name} for {shape.classes} classes ({_downloads.reason(error)})"
        ) from None
    # not before timm has compared the shapes: a small file may hold a view of one number as large as memory
    _state.check_finite(model.state_dict())
    return model


def _timm_weights(spec: LibrarySpec) -> _Weights:
    """The weights by the tag behind the name, or those that timm gives without one."""
    timm = vision.timm()
    name, _, tag = spec.name.partition(".")
    known = [full for full in timm.list_pretrained(f"{name}*") if full.partition(".")[0] == name]
    if not known or (tag and spec.name not in known):
        valid = f"; valid: {', '.join(known)}" if known else ""
        raise ModelError(f"timm has no weights {tag!r} of it{valid}; ?file=PATH names a file's")
    config = timm.models.get_pretrained_cfg(spec.name)
    path = _from_hub(config.hf_hub_id) if config.hf_hub_id else _by_url(config.url)
    return _Weights(path, config.num_classes, tuple(config.mean), tuple(config.std))


def _from_hub(place: str) -> Path:
    """The file of weights in a repository of the Hugging Face hub ("timm/resnet50.a1_in1k"), in the hub's cache."""
    from huggingface_hub import hf_hub_download

    repository, _, revision = place.partition("@")
    try:
        with vision.quiet():
            return Path(
                hf_hub_download(
                    repository, "model.safetensors", revision=revision or None,
                    local_files_only=not _weights_folder.wanted(),
                )
            )  # fmt: skip
    except Exception as error:  # of the hub, or of the network
        raise ModelError(
            f"its weights are not on this machine ({_downloads.reason(error)}); BENCH_DOWNLOAD=1 has bench download "
            f"them from https://huggingface.co/{repository}, or ?file=PATH names a file"
        ) from None


_LIBRARIES = {
    "torchvision": (_torchvision_weights, _torchvision_model),
    "timm": (_timm_weights, timm_model),
}
