"""A model that a function of the user's own file makes. The file is run as it is."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmark import keys
from benchmark.cards import import_file
from benchmark.models import _state
from benchmark.models._code_spec import CodeSpec
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, seeded


def load(spec: CodeSpec, shape: Shape) -> tuple[nn.Module, str]:
    """The model, and a digest of its parameters and buffers.

    A function with other random numbers than torch's makes another model each time, which the harness notices by it.
    """
    model = made(spec)
    state = model.state_dict()
    _state.check_finite(state)
    return model, keys.key(*([name, keys.tensor(value)] for name, value in state.items()))


def made(spec: CodeSpec, seed: int = 0) -> nn.Module:
    """What the function gives back. Torch's random numbers are the same whenever it is called with a seed."""
    try:
        with seeded(seed):
            model = getattr(import_file(spec.path), spec.function)()
    except (Exception, SystemExit) as error:  # whatever the user's file does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(f"{spec.function}() gives no model: {reason}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{spec.function}() gives back a {type(model).__name__}, not a torch.nn.Module"
        )
    return model


def facts(spec: CodeSpec) -> Any:
    """The version of the function's code, what it imports from beside it included."""
    return [spec.function, keys.code_version(spec.path.resolve())]
