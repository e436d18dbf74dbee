"""Our metrics beside Quantus 0.6 and Captum: the same values on the same network, images and maps, and the time.

    python -m venv VENV
    VENV/bin/pip install -c constraints.txt torch quantus==0.6.0 annotated-types pydantic
    python tests/peers/quantus_table.py --python VENV/bin/python --out results/reference/peers

Quantus does not share our environment, so `quantus_half.py` runs where it is installed; both halves meet in a folder.
Writes OUT/quantus.md and OUT/speed.md. Where a metric needs random numbers, Quantus is given ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from attacks import machine
from fidelity_speed import beside_captum
from quantus_ours import (
    PERCENTS,
    SAMPLES,
    Measure,
    Setting,
    edge_cases,
    large,
    measures,
    settings,
    write,
)
from quantus_why import WHY
from torch import Tensor

from metrics.case import Case


def theirs(python: str, given: Setting, names: list[str], *, timed: bool) -> dict[str, Any]:
    """What the other half found."""
    here = Path(__file__).resolve().parent
    with TemporaryDirectory() as folder:
        write(Path(folder), given, names, timed=timed)
        environment = os.environ | {"PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}
        command = [python, str(here / "quantus_half.py"), folder]
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
        found: dict[str, Any] = json.loads(Path(folder, "theirs.json").read_text(encoding="utf-8"))
    return found


def edge_table(other: dict[str, Any], size: int) -> str:
    """What both give for one image and maps without an order."""
    cases = {kind: c for kind, (_, c) in edge_cases(size).items()}
    lines = [
        f"| {name} | " + " | ".join(
            f"{float(measures(1)[name](c)):.4g} / {shown(other[name][kind])}" for kind, c in cases.items()
        ) + " |"
        for name in other
    ]  # fmt: skip
    head = " | ".join(f"{kind}: ours / Quantus" for kind in cases)
    return f"| metric | {head} |\n| --- |{' ---: |' * len(cases)}\n" + "\n".join(lines)


def compared(name: str, own: Tensor, other: dict[str, Any]) -> list[str]:
    """Our mean, Quantus's, the largest difference of an image, and Quantus's mean as it is shipped."""
    shipped = other.get("shipped")
    as_shipped = "" if shipped is None else shown(shipped)
    if "error" in other:
        return [f"{own.mean():.4f}", f"fails: {other['error']}", "", as_shipped]
    values = torch.tensor(other["values"]).view(len(own), -1)
    apart = (values - own.double()).abs().amax().item()
    return [f"{own.mean():.4f}", f"{values.mean():.4f}", f"{apart:.1e}", as_shipped]


def shown(run: dict[str, Any]) -> str:
    """A mean, or the reason why there is none."""
    if "error" in run:
        return f"fails: {run['error'][:80]}"
    return f"{np.mean(run['values']):.4g}"


def value_table(python: str, images: int) -> str:
    """results/reference/peers/quantus.md."""
    names, parts, notes = list(WHY), [], []
    versions: dict[str, str] = {}
    for given in settings(images):
        other = theirs(python, given, names, timed=False)
        versions, own = other["versions"], measures(given.steps)
        rows = [
            f"| {name} | {' | '.join(compared(name, own[name](given.case), other['found'][name]))} |"
            for name in names
        ]
        shape = "x".join(map(str, given.case.x.shape[1:]))
        notes += [f"- {given.name}: {finding}" for finding in other["findings"]]
        edges = edge_table(other["edges"], given.case.x.shape[2])
        parts.append(
            f"## {given.name}: {len(given.case.x)} images of {shape}, {given.model['architecture']}\n\n"
            "| metric | ours | Quantus, by our definition | largest difference of an image | Quantus as shipped |\n"
            "| --- | ---: | ---: | ---: | ---: |\n" + "\n".join(rows)
        )
    why = "\n".join(f"| {name} | {WHY[name].to} | {WHY[name].why} |" for name in names)
    return (
        "# Our metrics and Quantus's on the same network, images and maps\n\n"
        "`python tests/peers/quantus_table.py`; the map is the gradient of the logit of the predicted class. "
        "\"By our definition\": Quantus's code with the settings, the random numbers and the randomised weights that "
        "make it measure the same. \"As shipped\": its own defaults, on the absolute map summed over channels (from "
        "infidelity on: on the signed one, as its own `explain` gives it).\n\n" + "\n\n".join(parts)
        + "\n\n## Where they differ, and who is right\n\n"
        "| metric | same up to | what Quantus as shipped does otherwise |\n| --- | --- | --- |\n" + why + "\n\n"
        + "\n".join(notes) + "\n\n## One image, maps without an order\n\nThe map is constant, zero, or constant with "
        "one NaN; the mask is two columns.\n\n" + edges + "\n\n" + footer(versions)
    )  # fmt: skip


def seconds(measure: Measure, c: Case) -> float:
    """Processor time, the least of two runs, or of those in 5 s."""
    found: list[float] = []
    while len(found) < 2 and sum(found) < 5:
        began = time.process_time()
        measure(c)
        found.append(time.process_time() - began)
    return min(found)


def speed_table(python: str, images: int) -> str:
    """results/reference/peers/speed.md."""
    given = large(images)
    names = [name for name in WHY if "(" not in name]
    other = theirs(python, given, names, timed=True)
    own = measures(given.steps)
    rows = [
        speed_row(name, 1e3 * seconds(own[name], given.case) / images, other["found"][name], images)
        for name in names
    ]
    captum = [
        f"| {name} | {mine:.2f} | {peer:.2f} | {peer / mine:.2f} |"
        for name, mine, peer in beside_captum(images // 2)
    ]
    shape = "x".join(map(str, given.case.x.shape[1:]))
    return (
        "# Time per image beside Quantus and Captum\n\n"
        f"`python tests/peers/quantus_table.py`; {given.name}, {images} images of {shape}, one thread, processor time "
        "in milliseconds per image, the least of two runs (Captum: of three). Both sides predict the class and make "
        "the map of each image. Quantus is given all images as one batch and our random numbers, ours draws them and "
        "batches as in a run; both do the same passes of the network, but that our curves begin at the whole image: "
        f"{given.steps} steps, {SAMPLES} samples, {len(PERCENTS)} percentages of ROAD (ours in both orders, Quantus in "
        "one), all layers randomised one by one.\n\n"
        "| metric | ours | Quantus | Quantus / ours |\n| --- | ---: | ---: | ---: |\n" + "\n".join(rows)
        + f"\n\nCaptum, {images // 2} images of 3x32x32, its own batches of 25:\n\n"
        "| metric | ours | Captum | Captum / ours |\n| --- | ---: | ---: | ---: |\n" + "\n".join(captum)
        + "\n\n" + footer(other["versions"])
    )  # fmt: skip


def speed_row(name: str, mine: float, other: dict[str, Any], images: int) -> str:
    """A line; milliseconds per image."""
    if "error" in other:
        return f"| {name} | {mine:.2f} | {shown(other)} | |"
    peer = 1e3 * other["seconds"] / images
    return f"| {name} | {mine:.2f} | {peer:.2f} | {peer / mine:.2f} |"


def footer(versions: dict[str, str]) -> str:
    there = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Ours: torch {torch.__version__}. Theirs: {there}. {machine()}.\n"


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", required=True, help="of the environment that has Quantus")
    parser.add_argument("--out", type=Path, required=True, help="folder of the two tables")
    parser.add_argument("--images", type=int, default=60, help="whose values are compared")
    parser.add_argument("--timed", type=int, default=64, help="images whose time is measured")
    parser.add_argument("--only", choices=("values", "speed"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.only != "speed":
        (asked.out / "quantus.md").write_text(
            value_table(asked.python, asked.images), encoding="utf-8"
        )
    if asked.only != "values":
        (asked.out / "speed.md").write_text(
            speed_table(asked.python, asked.timed), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
