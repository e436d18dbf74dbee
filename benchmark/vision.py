"""torchvision, timm and robustbench, imported so that they work: the one place that imports them.

The index's torchvision wheel is a CUDA build; beside a CPU-only torch its import stops at "operator torchvision::nms
does not exist", and timm and robustbench stop with it. robustbench also needs `pkg_resources` and a module
`autoattack`, while its dependency installs `pyautoattack`. Each function here cures that where it is ill, does
nothing where it is healthy, and may be called again and again, in worker processes too. Box operators and
`torchvision.io` stay unusable after the cure (use Pillow).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


def torchvision() -> ModuleType:
    """The package torchvision."""
    try:
        return _quietly("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _operators()
    return _quietly("torchvision")


def timm() -> ModuleType:
    """The package timm."""
    torchvision()
    return _quietly("timm")


def robustbench() -> ModuleType:
    """The package robustbench, with its `utils` and `model_zoo` loaded; ImportError that names the remedy."""
    torchvision()
    if find_spec("pkg_resources") is None:
        raise ImportError(
            "robustbench imports pkg_resources, which setuptools 82 removed: pip install 'setuptools<82'"
        )
    if "autoattack" not in sys.modules and find_spec("autoattack") is None:
        _alias_autoattack()
    try:
        package = _quietly("robustbench")
    except ImportError as error:
        raise ImportError(f"robustbench does not import ({error}); {_remedy(error)}") from error
    if not hasattr(package, "benchmark") or not hasattr(package.utils, "download_gdrive_new"):
        raise ImportError(
            f"the robustbench in {package.__path__[0]} is an old copy that another package has written over it "
            "(torchattacks 3.5.1 does): pip uninstall torchattacks; "
            "pip install --force-reinstall --no-deps robustbench"
        )
    return package


def _remedy(error: ImportError) -> str:
    """What to install when robustbench stops at an import."""
    if "timm" in f"{error.name} {error}":
        return "it is written for timm 1.0.9: pip install timm==1.0.9"
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing and missing.partition(".")[0] != "robustbench":
        return f"pip install {missing.partition('.')[0]}"
    return "pip install --force-reinstall --no-deps robustbench"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings these packages give about their own insides; what they print goes to stderr."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def _quietly(name: str) -> ModuleType:
    """Import without warnings."""
    with quiet():
        return import_module(name)


@cache  # a library's operators live only as long as the object
def _operators() -> torch.library.Library:
    """Declare the compiled operators that torchvision's Python code names at import."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _alias_autoattack() -> None:
    """Put pyautoattack, the same code by the same authors, under its old name with its old signature."""
    package = _module("autoattack", AutoAttack=_old_autoattack())
    package.__path__ = []  # marks a package, so that `autoattack.state` is looked for in it
    state = _quietly("pyautoattack.state")
    package.state = _module("autoattack.state", EvaluationState=state.EvaluationState)  # type: ignore[attr-defined]


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name, "An alias of pyautoattack under its old name, made by bridgebench.")
    module.__spec__ = ModuleSpec(name, None, is_package="." not in name)
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def _old_autoattack() -> type:
    """AutoAttack (Croce & Hein 2020) as it was called before pyautoattack renamed its arguments."""
    methods = {"__init__": _old_init, "run_standard_evaluation": _old_run}
    return type("AutoAttack", (_new_autoattack(),), methods)


def _new_autoattack() -> Any:
    return _quietly("pyautoattack").AutoAttack


def _old_init(
    self: Any,
    model: nn.Module,
    norm: str = "Linf",
    eps: float = 0.3,
    seed: int | None = None,
    verbose: bool = True,
    attacks_to_run: Sequence[str] = (),
    version: str = "standard",
    is_tf_model: bool = False,
    device: torch.device | str = "cuda",
    log_path: str | None = None,
) -> None:
    """The old constructor; `log_path` is not written, the messages go to the logger "auto-attack"."""
    if is_tf_model:
        raise ValueError("AutoAttack: is_tf_model=True, but pyautoattack takes torch models only")
    settings = {"eps": eps, "norm": norm, "seed": seed, "version": version, "device": device}
    if attacks_to_run or version == "custom":
        settings["attacks"] = list(attacks_to_run)
    _new_autoattack().__init__(self, model, **settings)
    self.verbose = verbose


def _old_run(
    self: Any,
    x_orig: Tensor,
    y_orig: Tensor,
    bs: int = 250,
    return_labels: bool = False,
    **settings: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Adversarial images, with their predicted labels if asked."""
    run = _new_autoattack().run_standard_evaluation
    adversarial, labels = run(self, x_orig, y_orig, batch_size=bs, **settings)
    return (adversarial, labels) if return_labels else adversarial
