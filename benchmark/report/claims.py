"""RobustBench's claims: one JSON file a checkpoint, with the fields of its `model_info` folder. No torch.

What a run cannot know (authors, venue, link) is null and to be filled in before a claim is made. RobustBench takes
accuracies on all test images; the footnote says how many were measured here. Of several radii of a norm
each has a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from benchmark.models.published import PREFIX, published
from benchmark.report.health import lines
from benchmark.report.names import file_stem, row_names
from benchmark.report.read import ReportError, Run

DATASETS = ("cifar10", "cifar100", "imagenet")
"""What RobustBench has leaderboards of."""


def claims(run: Run) -> dict[str, str]:
    """Path below model_info -> content, for every checkpoint with clean accuracy and a usual AutoAttack.

    ReportError if there is none.
    """
    found = {path: content for part in run.by_dataset().values() for path, content in _claims(part)}
    if not found:
        raise ReportError(
            "no claim can be made: it takes clean_accuracy and auto_attack with its usual settings"
        )
    return {
        path: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for path, content in found.items()
    }


def _claims(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    records = run.records[run.records["headline"].astype(bool) & run.records["value"].notna()]
    names = row_names(run.records)
    usual = records[(records["metric"] == "auto_attack") & (records["params"] == "")]
    masked = {
        (line.model, line.trainer, line.seed)
        for line in lines(run.records)
        if line.check == "masking" and line.level == "FAIL"
    }
    for row in usual.to_dict("records"):
        key = (row["model"], row["trainer"], row["seed"])
        same = (records[["model", "trainer", "seed"]] == list(key)).all(axis=1)
        clean = records[same & (records["metric"] == "clean_accuracy")]
        norm, _, eps = str(row["threat"]).partition(" ")
        if len(clean):
            name = _name(names[key[:2]], row, records)
            # a leaderboard has one radius; who measured several chooses
            if (usual["threat"].str.startswith(f"{norm} ") & same).sum() > 1:
                name += f"-{file_stem('eps', eps)}"
            content = _content(row, clean.iloc[0], eps, key in masked)
            yield f"{row['dataset']}/{norm}/{name}.json", content


def _name(name: str, row: dict[Any, Any], records: pd.DataFrame) -> str:
    """RobustBench's own name of its models; what a row is called, and its seed where there are several."""
    model = str(row["model"])
    if model.startswith(PREFIX):
        return model.partition("?")[0].rpartition("/")[2]
    same = records[(records["model"] == row["model"]) & (records["trainer"] == row["trainer"])]
    return file_stem(name, *([f"seed{row['seed']}"] if same["seed"].nunique() > 1 else []))


def _content(row: dict[Any, Any], clean: pd.Series, eps: str, masked: bool) -> dict[str, Any]:
    known = published(str(row["model"])) or {}
    low, high = (f"{100 * row[end]:.2f}" for end in ("low", "high"))
    return {
        "link": None, "name": None, "authors": None,
        "additional_data": bool(known.get("extra_data", False)), "number_forward_passes": 1,
        "dataset": row["dataset"], "venue": None,
        "architecture": known.get("architecture", row["model"]), "eps": eps,
        "clean_acc": _percent(clean["value"]), "reported": None, "autoattack_acc": _percent(row["value"]),
        "footnote": f"Measured by bridgebench on {int(row['n'])} test images (95% interval {low} to {high}).",
        "unreliable": masked,
    }  # fmt: skip


def _percent(value: float) -> str:
    assert not math.isnan(value)
    return f"{100 * value:.2f}"
