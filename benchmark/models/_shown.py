"""The card of a model of torchvision, timm or a file: where it is from, its licence, what its origin states."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark import vision
from benchmark.models.spec import FileSpec, LibrarySpec, SpecError, parse

_TITLES = {
    "weights": "Weights",
    "top1": "Accuracy in % on ImageNet, as its origin states it",
    "classes": "Classes",
    "mean": "Mean of the normalisation",
    "std": "Standard deviation of the normalisation",
    "parameters": "Parameters",
    "architecture": "Architecture",
    "licence": "Licence of the weights",
    "paper": "Paper",
    "source": "Source",
    "download": "Download",
    "file": "File",
    "bytes": "Bytes",
    "sha256": "sha256 of the file",
}


def describe(text: str) -> tuple[str, dict[str, Any]]:
    """The card of `torchvision:NAME`, `timm:NAME` or `file:PATH@ARCHITECTURE`, as text and as facts.

    Nothing is downloaded, and a file is read but not loaded. SpecError for a specification that is none, or a file that
    is not there.
    """
    spec = parse(text)
    found: Mapping[str, Any]
    if isinstance(spec, LibrarySpec) and spec.path is None:
        found, head = _LIBRARIES[spec.library](spec), f"{text}: model of {spec.library}"
    elif isinstance(spec, (LibrarySpec, FileSpec)):
        architecture = (
            spec.architecture if isinstance(spec, FileSpec) else f"{spec.library}'s {spec.name}"
        )
        found = {
            "architecture": architecture,
            "mean": spec.mean,
            "std": spec.std,
            "licence": spec.licence or "not stated: give licence=...",
            "source": spec.source,
            **_file(spec.path),
        }
        head = f"{text}: model in a file"
    else:
        raise SpecError(f"model {text!r} has no card: it is known once its function has been run")
    known = {name: found[name] for name in _TITLES if found.get(name) not in (None, "", ())}
    lines = [f"{_TITLES[name]}: {_plain(value)}" for name, value in known.items()]
    return "\n".join([head, "", *lines]), {"name": text, **known}


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _file(path: Path | None) -> dict[str, Any]:
    assert path is not None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path} cannot be read ({error.strerror})") from None
    return {"file": str(path), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _torchvision(spec: LibrarySpec) -> Mapping[str, Any]:
    known = vision.torchvision().models.get_model_weights(spec.name)
    if spec.weights and spec.weights not in known.__members__:
        raise SpecError(
            f"torchvision has no weights {spec.weights!r} of {spec.name}; valid: {', '.join(known.__members__)}"
        )
    chosen = known[spec.weights] if spec.weights else known.DEFAULT
    look, meta = chosen.transforms(), chosen.meta
    return {
        "weights": chosen.name, "top1": meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
        "classes": len(meta.get("categories", ())), "mean": tuple(look.mean), "std": tuple(look.std),
        "parameters": meta.get("num_params"), "source": meta.get("recipe"), "download": chosen.url,
        "licence": "torchvision names none for the weights (its code: BSD-3-Clause)",
    }  # fmt: skip


def _timm(spec: LibrarySpec) -> Mapping[str, Any]:
    facts = vision.timm().get_pretrained_cfg(spec.name)
    if facts is None:
        raise SpecError(f"timm has no weights of {spec.name!r}")
    hub = f"https://huggingface.co/{facts.hf_hub_id}" if facts.hf_hub_id else ""
    return {
        "weights": facts.tag, "classes": facts.num_classes, "mean": facts.mean, "std": facts.std,
        "architecture": facts.architecture, "licence": facts.license or "timm names none: see the source",
        "paper": facts.paper_name or facts.paper_ids, "source": facts.origin_url, "download": hub or facts.url,
    }  # fmt: skip


_LIBRARIES = {"torchvision": _torchvision, "timm": _timm}
