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

from metrics.batching import affordable
from metrics.case import Case, Scores, predict


def auto_attack(
    case: Case,
    *,
    version: Literal["standard", "plus", "rand"] = "standard",
    queries: Annotated[int, Ge(1)] = 5000,
) -> Scores:
    """Accuracy under AutoAttack: an image is broken if any attack of the ensemble breaks it.

    The images still standing are attacked in batches of 250 in the order of the data, as the library itself does by
    default: the verdicts are those of its own call with this seed, and there is no other batch size to choose. Where
    memory does not suffice for one, the attack begins anew with half of it.

    Label: AutoAttack
    Threat: needed
    Formula: standard = APGD-CE, targeted APGD (9 targets), targeted FAB (9 targets), Square; 100 iterations. plus =
        APGD-CE, APGD-DLR, FAB (5 restarts each), Square, targeted APGD, targeted FAB. rand = APGD-CE, APGD-DLR with
        gradients averaged over 20 passes. Under L1, as the library has it: APGD-CE with 5 restarts and 5 targets of
        targeted APGD, both with large radii first
    Measures:
        robust_accuracy (higher, 0..1): Correct on the attacked image, as re-predicted by the harness.
        perturbation (none, 0..eps): Norm of the perturbation (0 for images that hold).
        invalid (lower, 0..1): The attacked image left the ball or [0, 1] (it does not count as broken).
        margin (lower, unbounded): max_k z_k - z_y on the attacked image; positive where it is misclassified.
        broken_by_apgd_ce (none, 0..1): APGD with cross-entropy broke the image first (0 if it is not in the ensemble).
        broken_by_apgd_dlr (none, 0..1): APGD with the difference of logits ratio did.
        broken_by_apgd_t (none, 0..1): Targeted APGD did.
        broken_by_fab (none, 0..1): FAB did.
        broken_by_fab_t (none, 0..1): Targeted FAB did.
        broken_by_square (none, 0..1): Square did.
    Args:
        version: standard; plus (more attacks and restarts); rand (for randomised defences).
        queries: Forward passes of the Square attack; 5000 is the published setting.
    Cost: about 2,000 gradients and `queries` forward passes for each image that holds
    Pitfalls: with K < 10 classes the targeted attacks take K - 1 targets. The difference of logits ratio needs 3
        classes, its targeted form 4, and the library's Square 5 x 5 pixels under L2 and L1: attacks that cannot run are
        left out, so that figures for few classes or tiny images are not of the same ensemble. The library's random
        numbers belong to the batch: another set of images gives other numbers for the same image.
    Paper: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks"
    """
    threat = case.needs_threat()
    adversary = AutoAttack(
        case.model, norm=threat.norm, eps=threat.eps, seed=case.draws.seed % 2**31,
        version=version, device=case.x.device,
    )  # fmt: skip
    targets = min(9, case.classes - 1)
    adversary.fab.n_target_classes = targets
    adversary.apgd_targeted.n_target_classes = min(
        adversary.apgd_targeted.n_target_classes, targets
    )
    adversary.square.n_queries = queries
    ensemble = [name for name in adversary.attacks_to_run if _can_run(name, case)]
    with _global_state_kept(case.x.device):
        adversarial, first = _run(adversary, ensemble, case)
    return {**case.grade(adversarial), **first}


def _can_run(name: str, case: Case) -> bool:
    """Whether the library's attack can: it crashes with fewer classes, or on smaller images, than these."""
    if name == "square" and case.needs_threat().norm != "Linf":
        return min(case.x.shape[-2:]) >= 5
    return case.classes >= {"apgd-dlr": 3, "apgd-t": 4}.get(name, 2)


def _run(adversary: AutoAttack, ensemble: list[str], case: Case) -> tuple[Tensor, Scores]:
    """The attacked images, and which attack broke each image first (as the library sees it).

    Attack by attack on the images that no earlier one broke, as the library does when it is given all of them.
    """
    adversarial = case.x.clone()
    first = {f"broken_by_{name}": torch.zeros(len(case.x), device=case.x.device) for name in _NAMES}
    stands = predict(case.model, case.x) == case.y
    for name in ensemble if case.needs_threat().eps > 0 else []:
        left = stands.nonzero().squeeze(1)
        if not len(left):
            break
        adversary.attacks_to_run = [name]
        moved, labels = _attacked(adversary, case.x[left], case.y[left])
        broken = left[labels != case.y[left]]
        adversarial[left], stands[broken] = moved.clamp(0, 1), False  # L1: 1 + 1e-7 happens
        first[f"broken_by_{name.replace('-', '_')}"][broken] = 1
    return adversarial, first


def _attacked(adversary: AutoAttack, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The attacked images, and what they are predicted as."""

    def run(size: int) -> tuple[Tensor, Tensor]:
        moved, labels = adversary.run_standard_evaluation(x, y, batch_size=size)
        return moved, labels

    return affordable(run, min(250, len(x)))[0]


_NAMES = ("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square")


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
