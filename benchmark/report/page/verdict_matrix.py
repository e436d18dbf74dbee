"""Which attack broke which image: a letter for each model and test image, with the images themselves."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.image import imsave
from numpy.typing import NDArray

from benchmark.report.names import norm_sign
from benchmark.report.origin import class_name
from benchmark.report.page.board import Board
from benchmark.report.read import Run

IMAGES = 60
"""How many test images are shown: the first, as many as have a thumbnail."""

HELD, WRONG = ".", "-"
"""No attack changed the prediction; it was wrong before any."""
_FIRST = ord("A")


def verdict_matrix(run: Run, board: Board) -> dict[str, object]:
    """As the page's script reads it: attacks, images, and a text of one sign an image for each threat, model and seed.

    A sign is `HELD`, `WRONG`, or the attack that broke the image first: "A" is the first of `attacks`.
    """
    verdicts = run.verdicts()
    if verdicts.empty:
        return {}
    images = verdicts[["image", "label"]].drop_duplicates("image").head(IMAGES)
    shown = verdicts[verdicts["image"].isin(images["image"])]
    attacks = _in_order([str(name) for name in shown["broken_by"].unique() if name], run)
    signs = {name: chr(_FIRST + i) for i, name in enumerate(attacks)} | {"": HELD}
    coded = shown.assign(
        sign=shown["broken_by"].astype(str).map(signs).where(shown["clean_correct"], WRONG)
    )
    number = {(line.row.model, line.row.trainer): i for i, line in enumerate(board.lines)}
    return {
        "attacks": attacks,
        "threat": norm_sign(_richest(shown)),
        "images": [
            (int(image), class_name(run.manifest, board.table.dataset, int(label)))
            for image, label in images.to_numpy()
        ],
        "rows": _rows(coded, number, list(images["image"])),
        **_sprite(run.thumbnails(board.table.dataset), list(images["image"])),
    }


def _in_order(attacks: list[str], run: Run) -> list[str]:
    """As the records have them, which is the order of the suite; a name may have settings behind its label."""
    labels = list(run.records["label"].unique())
    begins = {
        name: [i for i, label in enumerate(labels) if name.startswith(label)] for name in attacks
    }
    return sorted(attacks, key=lambda name: min(begins[name], default=len(labels)))


def _richest(shown: pd.DataFrame) -> str:
    """The threat under which most attacks ran (as far as they broke something): the one to show first."""
    return str(shown.groupby("threat", sort=False, observed=True)["broken_by"].nunique().idxmax())


def _rows(
    coded: pd.DataFrame, number: dict[tuple[str, str], int], order: list[int]
) -> list[tuple[str, int, int, str]]:
    """(threat, number of the model, seed, signs in the order of the images)."""
    keys = ["threat", "model", "trainer", "seed"]
    found = []
    for key, group in coded.groupby(keys, sort=False, observed=True):
        threat, model, trainer, seed = map(str, key)
        if (model, trainer) in number:
            signs = group.set_index("image")["sign"].reindex(order, fill_value=" ")
            found.append((norm_sign(threat), number[model, trainer], int(seed), "".join(signs)))
    return found


def _sprite(kept: dict[str, NDArray[Any]], order: list[int]) -> dict[str, object]:
    """All thumbnails side by side as one picture, and the size of one; nothing where none are kept."""
    if not kept:
        return {}
    thumbnails = kept["thumbnails"]
    place = {int(image): i for i, image in enumerate(kept["ids"][: len(thumbnails)])}
    if not all(image in place for image in order):
        return {}  # kept of other images than were attacked
    strip = np.concatenate([thumbnails[place[image]] for image in order], axis=-1)
    colours = strip if len(strip) == 3 else strip[:1].repeat(3, axis=0)
    out = io.BytesIO()
    imsave(out, colours.transpose(1, 2, 0), format="png")
    height, width = thumbnails.shape[-2:]
    picture = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    return {"sprite": picture, "width": int(width), "height": int(height)}
