"""Top floor: the harness that plans, runs, stores and reports. In a notebook: `benchmark.load("results/quick")`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.notebook import Results

# These names are common: another distribution may have put its own packages beside (or over) ours.
for _name in ("trainers", "metrics"):
    _spec = find_spec(_name)
    _place = Path(_spec.origin).parent if _spec and _spec.origin else None
    if _place is None or _place.parent != Path(__file__).parent.parent:
        raise ImportError(
            f"the package {_name!r} that Python finds is not bridgebench's: it is at {_place or 'no file'}, "
            f"ours is beside {Path(__file__).parent}. Uninstall the other distribution, or install bridgebench "
            "in an environment of its own."
        )


def load(folder: str | Path) -> Results:
    """The results in a run's folder: pandas frames, and the tables of its report (benchmark/notebook.py)."""
    from benchmark.notebook import load as results

    return results(folder)
