"""What a training step costs, measured on the step itself."""

from __future__ import annotations

import copy
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Cost(NamedTuple):
    """What one batch of images costs."""

    forward: float
    """Forward passes of the trained model, in batches."""
    backward: float
    """Backward passes through the trained model, in batches, and the double-backward passes through those that are
    differentiated themselves."""
    work: float
    """Floating-point operations of convolutions and matrix products, of all networks involved, relative to a step of
    standard training: a forward and a backward pass."""


NOTHING = Cost(0, 0, 0)


class _Operations(TorchDispatchMode):
    """Floating-point operations of convolutions and matrix products, in passes of any direction and order."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula:
            self.count += formula(*args, **(kwargs or {}), out_val=out)
        return out


class Meter:
    """Counts the passes and operations of what is done within the context: `with Meter(model, n, work) as meter`.

    `batch`: how many images are one batch; `standard`: the operations of a step of standard training on so many.
    """

    def __init__(self, model: nn.Module, batch: int, standard: int) -> None:
        self._model, self._batch, self._standard = model, batch, standard
        self._operations = _Operations()
        self._forward = self._backward = 0

    @property
    def cost(self) -> Cost:
        """What was counted."""
        work = self._operations.count / self._standard if self._standard else float("nan")
        return Cost(self._forward / self._batch, self._backward / self._batch, work)

    def __enter__(self) -> Meter:
        self._hook = self._model.register_forward_hook(self._seen)
        self._operations.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._operations.__exit__(kind, error, trace)
        self._hook.remove()

    def _seen(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        images = len(inputs[0])
        self._forward += images
        differentiable = False

        def back(gradient: Tensor) -> None:
            nonlocal differentiable
            if torch.is_grad_enabled():
                # the loss will go back through this pass: it is counted now, for it need not come by here again
                self._backward += 2 * images
                differentiable = True
            elif not differentiable:
                self._backward += images

        if output.requires_grad:
            output.register_hook(back)


def standard_operations(model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Operations of a step of standard training on a batch."""
    twin = copy.deepcopy(model).train()
    cuda = [x.device] if x.device.type == "cuda" else []
    # a user's network may have dropout, whose draws are the training's
    with torch.random.fork_rng(cuda), _Operations() as operations:
        F.cross_entropy(twin(x), y).backward()
    return operations.count
