"""Preflight and the masking verdict of all published checkpoints of the shared data: none of them deserves a FAIL.

    python tests/peers/health.py SHARED_DATA [--images 500] > results/reference/peers/health.md

Preflight sees 250 test images, `masking` attacks 100 (or `--images`) under Linf at the radius the training was for
(8/255 and 0.3 for standard ones); there is no other model to transfer from.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from checkpoints import CHECKPOINTS, case

from benchmark.datasets.load import load
from benchmark.gradient_masking import Share, verdict
from benchmark.models.checkpoint import load as load_model
from benchmark.models.spec import parse
from benchmark.preflight import preflight
from metrics.case import NotApplicable
from metrics.robustness.masking import masking

RADII = {
    "resnet20-12fca82f.th": "8/255", "resnet32-d509ac18.th": "8/255", "mnist_conv_small_nat.pth": "0.1",
    "mnist.pth": "0.1", "mnist_0.1_convmed_flat_2_2_100.pt": "0.1",
}  # fmt: skip
USUAL = {"cifar10": "2/255", "mnist": "0.3"}
SHOWN = ("fgsm", "pgd20", "pgd100", "margin", "square", "noise", "large_eps")


def alone(name: str) -> torch.nn.Module:
    """No other model."""
    raise NotApplicable(f"no {name} model of this data")


def main(folder: Path, images: int) -> None:
    """Print a line for each checkpoint."""
    torch.set_num_threads(1)
    print("# Preflight and masking verdict of 19 published checkpoints\n")
    print(" ".join((__doc__ or "").split("\n\n")[2].split()) + f" Attacked here: {images}.\n")
    print(f"| checkpoint | Linf | preflight | masking | {' | '.join(SHOWN)} | seconds |")
    print("| --- | --- | --- | --- |" + " ---: |" * (len(SHOWN) + 1))
    for stated in CHECKPOINTS:
        began, name = time.process_time(), stated.file.rpartition("/")[2]
        data = load(stated.dataset, folder / "datasets")
        spec = parse(f"file:{folder / 'checkpoints' / stated.file}@{stated.network}")
        channels, size, _ = data.shape
        model = load_model(spec, channels=channels, classes=len(data.classes), size=size).model
        model.eval().requires_grad_(False)
        some = data.test[:250]
        found = preflight(model, some.x, some.y, len(data.classes)).values()
        eps = RADII.get(name, USUAL[stated.dataset])
        scores = masking(replace(case(model, data, images, eps), surrogate=alone), images=images)
        seen = {key: Share(float(values.nanmean()), images) for key, values in scores.items()}
        judged = verdict(seen)
        preflights = [f"{finding.level} {finding.code}" for finding in found if finding.code]
        reasons = [f"{reason.level} {reason.code}" for reason in judged.reasons]
        print(
            f"| {name} | {eps} | {', '.join(preflights) or 'PASS'} | {', '.join(reasons) or 'PASS'} | "
            f"{' | '.join(f'{100 * seen[key].value:.0f}' for key in SHOWN)} | {time.process_time() - began:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    main(given.folder, given.images)
