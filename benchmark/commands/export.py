"""`bench export`."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands._options import Folder
from benchmark.commands._shared import err


class Export(str, Enum):
    """What can be made of a run for others."""

    bibtex = "bibtex"
    robustbench = "robustbench"


def export(
    folder: Folder,
    what: Annotated[
        Export,
        typer.Option(
            "--what", "-w",
            help="bibtex: the sources of all that the run used. robustbench: claims for its leaderboards, a JSON "
            "file a checkpoint.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file for bibtex (otherwise it is printed); a folder for robustbench."),
    ] = None,
) -> None:  # fmt: skip
    """Write what others ask for: the papers to cite, or claims for RobustBench."""
    from benchmark.report.read import read
    from benchmark.storage import records
    from benchmark.storage.atomic import write_atomically

    records.refresh(folder)
    run = read(folder)
    if what is Export.bibtex:
        from benchmark.report.citations import bibtex

        text = bibtex(run)
        if out is None:
            print(text, end="")
            return
        files = {out: text}
    else:
        from benchmark.report.claims import DATASETS, claims

        root = out or folder / "model_info"
        files = {root / path: content for path, content in claims(run).items()}
        if other := [name for name in run.by_dataset() if name not in DATASETS]:
            err.print(
                f"RobustBench has no leaderboard of {', '.join(other)}; it has {', '.join(DATASETS)}."
            )
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, partial(_text, content))
        err.print(str(path), highlight=False, soft_wrap=True)


def _text(content: str, path: Path) -> object:
    return path.write_text(content, encoding="utf-8")
