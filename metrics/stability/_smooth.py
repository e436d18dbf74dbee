"""Importance that can be differentiated itself, also where the network is piecewise linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from metrics.attribution import Explained
from metrics.importance import pixel_map
from metrics.maps import Magnitude


class Softplus(TorchFunctionMode):
    """Within it ReLU is softplus, ln(1 + e^(beta z)) / beta, in whatever way a model calls it.

    Leaky ReLU is smoothed alike. The model itself is not touched.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The function's own result, or what stands for it."""
        name = getattr(func, "__name__", "")
        kinked = _KINKED.get(name.removesuffix("_"))
        if kinked is None:
            return func(*args, **(kwargs or {}))
        z, slope, in_place = kinked(*args, **(kwargs or {}))
        in_place = in_place or name.endswith("_")
        given = z.clone() if in_place else z  # a gradient needs what is overwritten
        smooth = slope * given + (1 - slope) * F.softplus(given, self.beta)
        return z.copy_(smooth) if in_place else smooth


# name -> its arguments -> what it is applied to, the slope for negative values, and whether it is overwritten
_KINKED: dict[str, Callable[..., tuple[Tensor, float, bool]]] = {
    "relu": lambda input, inplace=False: (input, 0.0, inplace),
    "leaky_relu": lambda input, negative_slope=0.01, inplace=False: (
        input,
        negative_slope,
        inplace,
    ),
}

# attribution -> where on the way from black to the image gradients are taken, and what their mean is multiplied by
_FORMS: dict[str, tuple[tuple[float, ...], Callable[[Tensor], Tensor]]] = {
    "gradient": ((1.0,), torch.ones_like),
    "gradient_x_input": ((1.0,), lambda x: x - 0.5),
    "integrated_gradients": (tuple((i + 0.5) / 10 for i in range(10)), lambda x: x),
}


def differentiable_importance(
    explained: Explained,
    x: Tensor,
    attribution: str,
    beta: float,
    reduction: Magnitude = "sum_abs",
) -> Tensor:
    """Importance (n, H, W) of the pixels of x (which requires a gradient), of the network with softplus for ReLU.

    Integrated gradients are taken at 10 points.
    """
    points, factor = _FORMS[attribution]
    gradients = []
    with Softplus(beta):
        for point in points:
            at = point * x
            gradients.append(torch.autograd.grad(explained(at).sum(), at, create_graph=True)[0])
    # the map of a linear network does not depend on the image: a derivative of 0, not an error
    return pixel_map(factor(x) * torch.stack(gradients).mean(0) + 0 * x, reduction)
