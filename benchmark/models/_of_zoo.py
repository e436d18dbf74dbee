"""Models of RobustBench: its networks, filled by us, because its own loading runs what is in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from benchmark import vision
from benchmark.models import _downloads, _files, _state
from benchmark.models._of_library import timm_model, versions
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, seeded
from benchmark.models.spec import ZooSpec

# normalisations, which stand in the network's own code; files from before they stood there lack them
_CONSTANTS = {"mu", "sigma", "mean", "std", "num_batches_tracked"}


def load(spec: ZooSpec, shape: Shape) -> tuple[nn.Module, str]:
    """The model, and the sha256 of each of its files, joined with "+"."""
    entry = _entry(spec)
    address = entry["gdrive_id"]
    addresses = address if isinstance(address, list) else [address]
    files = [spec.path]
    if isinstance(address, list):
        files = [spec.path.with_name(f"{spec.path.name}_m{i}.pt") for i in range(len(address))]
    pins = spec.sha256 or ("",) * len(files)
    if len(pins) != len(files):
        raise ModelError(f"sha256 pins {len(pins)} files, the model has {len(files)}")
    if address is None:
        return _registered(spec, pins[0])
    model = _built(entry)
    digests = [
        _fill(spec, path, pin, identity, parts)
        for path, pin, identity, parts in zip(
            files, pins, addresses, _parts(model, len(files)), strict=True
        )
    ]
    return model, "+".join(digests)


def facts(spec: ZooSpec) -> Any:
    """Which model, and the packages that its network is from."""
    return [spec.group, spec.name, *versions("robustbench", "timm", "torchvision")]


def _entry(spec: ZooSpec) -> Mapping[str, Any]:
    """What RobustBench knows of a model: how to build it, and where its weights are."""
    try:
        zoo = vision.robustbench().model_zoo.model_dicts
    except ImportError as error:
        raise ModelError(str(error)) from None
    by_group = {
        f"{dataset.value}/{threat.value}": models
        for dataset, threats in zoo.items()
        for threat, models in threats.items()
    }
    entry: Mapping[str, Any] = by_group[spec.group][spec.name]
    return entry


def _built(entry: Mapping[str, Any]) -> nn.Module:
    """The network of an entry, before its weights."""
    try:
        with seeded(0), vision.quiet():
            model: nn.Module = entry["model"]()
    except Exception as error:  # some ask for a GPU, some for another version of timm
        raise ModelError(f"RobustBench cannot build it here ({_downloads.reason(error)})") from None
    return model.cpu()


Parts = dict[tuple[str, ...], nn.Module]
"""Where in a file -> the part of the model whose weights are there."""


def _parts(model: Any, files: int) -> Iterator[Parts]:
    """The parts of a model, file by file: an ensemble has its networks in files of their own."""
    if files == 1:
        yield {(): model}
    elif hasattr(model, "comp_model"):
        for network in model.comp_model.models:
            yield {(): network}
        yield {("model",): model.comp_model.policy_net, ("bn",): model.comp_model.bn}
    elif hasattr(model, "std_model"):
        yield {(): model.std_model}
        yield {(): model.rob_model}
    else:
        for network in model.models:
            yield {(): network}


def _fill(spec: ZooSpec, path: Path, pin: str, identity: str, parts: Parts) -> str:
    """Fill the parts of a model from their file, which RobustBench's own downloader gets; the file's sha256."""
    source = f"https://drive.google.com/uc?id={identity}"
    download = vision.robustbench().utils.download_gdrive_new
    _downloads.ensure(path, source, lambda target: download(identity, target))
    try:
        found, digest = _files.load(path, pin)
        for key, part in parts.items():
            _put(part, found, key, spec.name)
    except ModelError as error:
        raise ModelError(f"{path} {error} (from {source})") from None
    return digest


def _put(network: nn.Module, found: object, key: tuple[str, ...], title: str) -> None:
    """Fill a network with the weights at `key` of what a file holds."""
    if not key and isinstance(found, Mapping) and "state_dict" not in found and "last" in found:
        key = ("last",)  # of training's last and best epoch RobustBench takes the last
    state = _state.parameters(found, key)
    state = {name.removeprefix("module.").removeprefix("model."): v for name, v in state.items()}
    state = _named_as(network, _renamed(network, state))
    _state.fill(network, state, title, _may_miss, _may_exceed)


def _renamed(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a Swin transformer as the installed timm names them; any others as they are."""
    swin = vision.timm().models.swin_transformer
    inner = getattr(network, "model", network)
    if isinstance(inner, swin.SwinTransformer):
        return dict(swin.checkpoint_filter_fn(state, inner))
    return state


def _named_as(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with "model." before its names if the network has its own so, behind a normalisation."""
    own = network.state_dict().keys()
    behind = {f"model.{name}": value for name, value in state.items()}
    return behind if len(behind.keys() & own) > len(state.keys() & own) else state


def _may_miss(name: str) -> bool:
    return name.rpartition(".")[2] in _CONSTANTS


def _may_exceed(name: str) -> bool:
    """What files hold of their training: the first layers once more, and the scores by which weights were pruned."""
    return name.startswith("model_preact_hl1.") or name.endswith(".scores")


def _registered(spec: ZooSpec, pin: str) -> tuple[nn.Module, str]:
    """A model that RobustBench has timm build, and the sha256 of its file."""
    dataset, _, threat = spec.group.partition("/")
    name = f"{spec.name.lower().replace('-', '_')}_{dataset}_{threat.lower()}"
    config = vision.timm().models.get_pretrained_cfg(name)
    _downloads.ensure(spec.path, config.url)
    try:
        found, digest = _files.load(spec.path, pin)
        shape = Shape(channels=3, classes=config.num_classes, size=config.input_size[-1])
        return timm_model(name, _state.parameters(found), shape), digest
    except ModelError as error:
        raise ModelError(f"{spec.path} {error} (from {config.url})") from None
