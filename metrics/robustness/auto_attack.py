"""AutoAttack, by the library of its authors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from pyautoattack import AutoAttack
from torch import Tensor

from metrics.case import Case, NotApplicable, Scores, in_batches


def auto_attack(
    case: Case,
    *,
    version: Literal["standard", "plus", "rand"] = "standard",
    queries: Annotated[int, Ge(1)] = 5000,
) -> Scores:
    """Accuracy under AutoAttack: an image is broken if any attack of the ensemble breaks it.

    Label: AutoAttack
    Threat: needed
    Formula: standard = APGD-CE, targeted APGD (9 targets), targeted FAB (9 targets), Square; 100 iterations
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that hold).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
    Args:
        version: standard; plus (more attacks and restarts); rand (for randomised defences).
        queries: Forward passes of the Square attack; 5000 is the published setting.
    Cost: about 2,000 gradients and `queries` forward passes for each image that holds
    Pitfalls: with K < 10 classes the targeted attacks take K - 1 targets, with 2 or 3 classes the losses that need
        more classes are left out, so that figures for different K are not the same ensemble.
    Paper: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks"
    """
    adversary = _adversary(case, version)
    adversary.square.n_queries = queries

    def attack(x: Tensor, y: Tensor) -> Tensor:
        adversarial: Tensor = adversary.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return adversarial

    with _global_state_kept(case.x.device):
        return case.grade(in_batches(attack, case.x, case.y))


def _adversary(case: Case, version: str) -> AutoAttack:
    """The published ensemble, with as many targets as there are other classes.

    Its difference-of-logits-ratio losses need 3 classes (4 if targeted) and crash with fewer.
    """
    threat = case.needs_threat()
    small = {2: ["apgd-ce", "fab", "square"], 3: ["apgd-ce", "fab-t", "square"]}.get(case.classes)
    if small and version != "standard":
        raise NotApplicable(
            f"version {version!r} needs at least 4 classes, this data set has {case.classes}"
        )
    adversary = AutoAttack(
        case.model, norm=threat.norm, eps=threat.eps, seed=case.draws.seed % 2**31,
        version="custom" if small else version, attacks=small, device=case.x.device,
    )  # fmt: skip
    targets = min(9, case.classes - 1)
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = targets
    if small:
        adversary.apgd.n_restarts = adversary.fab.n_restarts = 1
    return adversary


@contextmanager
def _global_state_kept(device: torch.device) -> Iterator[None]:
    """The library seeds the global generator and removes any trace function (so debuggers and coverage go blind)."""
    trace = sys.gettrace()
    logging.getLogger("auto-attack").addHandler(
        logging.NullHandler()
    )  # no remarks between the rows of a run
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        sys.settrace(trace)
