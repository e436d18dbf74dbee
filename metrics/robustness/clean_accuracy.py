"""Accuracy on unchanged images."""

from __future__ import annotations

from metrics.case import Case, Scores, predict


def clean_accuracy(case: Case) -> Scores:
    """Share of images that are classified as labelled.

    Label: Clean
    Formula: 1[argmax f(x) = y]
    Measures:
        accuracy (higher, 0..1): Correct on the unchanged image.
    Cost: one forward pass per image
    """
    return {"accuracy": (predict(case.model, case.x) == case.y).float()}
