"""Is this model what the measures take it for? Checked before anything is concluded from it.

A failed check does not stop a run (it counts under `--strict`): it is a row of the records, with the remedy. Every
check measures what the model does; none asks what it is called. The model, its statistics and torch's global generator
stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmark.gradient_masking import Finding
from benchmark.preflight._gradients import (
    agreement,
    consistent,
    gradients_alive,
    saturation,
    single_pass,
)
from benchmark.preflight._labelled import better_than_chance, label_order, pixel_range
from benchmark.preflight._outputs import (
    batch_norm,
    class_count,
    deterministic,
    finite,
    independent,
    input_kept,
    mode,
    precision,
    raw_logits,
)
from benchmark.preflight._subject import PASSED, REMEDIES, Subject

__all__ = ["CHECKS", "PASSED", "REMEDIES", "preflight"]

Check = Callable[[Subject], Finding]


def preflight(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> dict[str, Finding]:
    """Check -> what it found.

    The checks of range, labels and chance compare accuracies: with 250 images they see a difference of 5 points, with
    16 only a complete failure. Checks that make no sense after another one failed are left out.
    """
    subject, seen = Subject(model, x, y, classes), dict[str, Finding]()
    # a model that draws random numbers may do so here without moving anybody's
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        for name, check in CHECKS.items():
            if all(seen.get(other) == PASSED for other in FIRST.get(name, ("finite", "classes"))):
                seen[name] = check(subject)
    return seen


CHECKS: dict[str, Check] = {
    "finite": finite,
    "classes": class_count,
    "input": input_kept,
    "mode": mode,
    "deterministic": deterministic,
    "independent": independent,
    "precision": precision,
    "logits": raw_logits,
    "gradient": gradients_alive,
    "saturation": saturation,
    "consistent": consistent,
    "agreement": agreement,
    "passes": single_pass,
    "batch_norm": batch_norm,
    "range": pixel_range,
    "labels": label_order,
    "chance": better_than_chance,
}
"""In this order."""

FIRST: dict[str, tuple[str, ...]] = {
    "finite": (),
    "classes": ("finite",),
    "independent": ("classes", "deterministic"),
    "gradient": ("classes", "input"),
    "saturation": ("gradient", "logits"),
    "consistent": ("gradient", "deterministic", "independent"),
    "agreement": ("consistent", "logits", "precision"),
    "passes": ("classes", "input"),
    "range": ("classes", "input", "deterministic"),
    "labels": ("classes", "range"),
    "chance": ("labels",),
}
"""Check -> what it takes for granted: checks that must have passed before. Others need the first two."""
