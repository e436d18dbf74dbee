"""Rules for the functions of a network's pass, for attributions that are not a plain gradient.

They act on functions, whoever calls them: a module, used once or often, or the network's own code; and they leave
nothing on the model. Captum hooks modules instead: it passes over functional activations in silence, and its DeepLIFT
loses contributions where one hooked module follows another directly, as ReLU and max pooling do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_ELEMENTWISE = frozenset({
    "celu", "clamp", "clamp_min", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid",
    "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh", "threshold",
})  # fmt: skip
_SAME = 1e-6
"""Inputs of an activation closer to each other than this have the slope at the image, not that between them."""


class Rescale(TorchFunctionMode):
    """DeepLIFT's Rescale rule: within it an activation's derivative is its slope between an image and its reference.

    A batch holds the images and then, in the same order, their references: `batch` is the number of both. Max pooling
    shares what it gains among the two pixels that are largest in one of them.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The function's own values; its derivative by the rule."""
        kwargs = dict(kwargs or {})
        name = _name(func)
        if name in _ELEMENTWISE or name == "max_pool2d":
            z, *rest = args or (kwargs.pop("input"),)
            if len(z) % self.batch == 0:
                rule = _pooled if name == "max_pool2d" else _rescaled
                return rule(func, z, *rest, **kwargs)
            return func(z, *rest, **kwargs)
        return func(*args, **kwargs)


class Guided(TorchFunctionMode):
    """Guided backpropagation: within it a ReLU lets only positive gradients through; `found` says if there is one."""

    found = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The function's own result."""
        out = func(*args, **(kwargs or {}))
        if _name(func) == "relu" and out.requires_grad:
            self.found = True
            out.register_hook(lambda gradient: gradient.clamp_min(0))
        return out


class Convolutions(TorchFunctionMode):
    """Within it `features` are what the convolutions gave, (n, channels, h, w) of more than one pixel, as they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.features: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The function's own result."""
        out = func(*args, **(kwargs or {}))
        if _name(func) == "conv2d" and out.shape[2:].numel() > 1:
            self.features.append(out)
            return out.clone()  # an activation that works in place must not change what is kept
        return out


def _name(func: Callable[..., Any]) -> str:
    """A function's name; that of `relu_` is relu."""
    return getattr(func, "__name__", "").removesuffix("_")


def _rescaled(func: Callable[..., Tensor], z: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    given = z.clone()
    out = func(given, *rest, **kwargs)
    in_place = out is given
    (x, reference), (y, at_reference) = z.chunk(2), out.chunk(2)
    step = (x - reference).detach()
    same = step.abs() < _SAME
    slope = ((y - at_reference) / step.where(~same, 1.0)).detach()
    between = y.where(same, y.detach() + slope * (x - x.detach()))
    out = torch.cat([between, at_reference])
    return z.copy_(out) if in_place else out


def _pooled(func: Callable[..., Tensor], z: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    out, at = F.max_pool2d(z, *rest, **{**kwargs, "return_indices": True})
    (x, reference), (y, at_reference) = (each.chunk(2) for each in (z.flatten(2), out.flatten(2)))
    higher = y.maximum(at_reference)
    value = y.detach()
    # the gain over the reference belongs to the image's largest pixel, a loss to the reference's
    for places, change in zip(
        at.flatten(2).chunk(2), (higher - at_reference, y - higher), strict=True
    ):
        pixel, before = x.gather(2, places), reference.gather(2, places)
        step = (pixel - before).detach()
        slope = (change.detach() / step).where(change != 0, 0.0)
        value = value + slope * (pixel - pixel.detach())
    return torch.cat([value, at_reference]).view_as(out)
