"""Copies of a model that forget what it has learnt, layer by layer from the logits to the input."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from metrics.batching import out_of_memory
from metrics.case import NotApplicable
from metrics.randomness import Draws


def cascade(
    model: nn.Module, x: Tensor, draws: Draws, stages: int
) -> Iterator[tuple[float, nn.Module]]:
    """(share of the layers that are randomised, a copy of the model in which they are), share rising to 1.

    In equal steps, at most one a layer. It is the same copy every time; `model` stays as it is. The new weights depend
    on the seed of `draws` and the layer's name alone. NotApplicable for a model without parameters, or one that cannot
    be copied.
    """
    randomised = _copied(model)
    names = _layers(model, x[:1])
    if not names:
        raise NotApplicable(
            "the model has no layers with parameters, so there is nothing to randomise"
        )
    stages, done = min(stages, len(names)), 0
    for stage in range(1, stages + 1):
        until = round(stage * len(names) / stages)
        for name in names[done:until]:
            layer = randomised.get_submodule(name)
            _randomise(layer, draws.fork("reinitialise", name).seed)
        done = until
        yield stage / stages, randomised


def _layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of all modules with parameters of their own: those that this image runs through, the last one first.

    Then those that are not called, the last defined first: the model may use their weights all the same, as
    nn.MultiheadAttention does its output layer's.
    """
    traced, called = _copied(model), []
    owners = [
        name
        for name, module in traced.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    for name in owners:
        traced.get_submodule(name).register_forward_pre_hook(
            lambda *_, name=name: called.append(name)
        )
    with torch.no_grad():
        traced(x)
    return list(dict.fromkeys([*reversed(called), *reversed(owners)]))


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a model holds: a lock, a computed weight
        if out_of_memory(error):
            raise
        raise NotApplicable(f"the model cannot be copied: {error}") from error


def _randomise(layer: nn.Module, seed: int) -> None:
    """Redraw a layer's parameters in place, on any device alike; torch's global generators stay as they were.

    By the layer's own `reset_parameters`, as when it was built; what that leaves as it was (a bare parameter of a
    composite module, a weight in parts) is shuffled.
    """
    fresh = copy.deepcopy(layer).cpu()
    before = {name: own.clone() for name, own in fresh.named_parameters(recurse=False)}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        # not torch.manual_seed, which reseeds the GPUs as well
        torch.default_generator.manual_seed(seed)
        reset = getattr(fresh, "reset_parameters", None)
        if callable(reset):
            reset()
        for name, own in fresh.named_parameters(recurse=False):
            if torch.equal(own, before[name]):
                own.copy_(own.flatten()[torch.randperm(own.numel())].view_as(own))
    layer.load_state_dict(fresh.state_dict())
