"""manifest.json: what made a folder's results - versions, machine, data, and the seconds of every job."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cards import ROOT
from benchmark.storage.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmark.datasets.base import Dataset
    from benchmark.executors import Outcome
    from benchmark.plan import Plan

PACKAGES = (
    "bridgebench", "torch", "torchvision", "captum", "pyautoattack", "robustbench",
    "numpy", "pandas", "scipy", "scikit-learn", "matplotlib",
)  # fmt: skip


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Installed versions of what results depend on; "" for what is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def commit() -> str:
    """The commit of the checkout that the code is in, with "+" if files differ from it; "" outside a checkout."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, empty if it has none."""
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


@dataclass
class Log:
    """One invocation of a run, as it will stand in the manifest: several may have made what a folder holds."""

    folder: Path
    command: str
    workers: int
    device: str
    started: str = field(default_factory=now)
    weights: Mapping[str, str] = field(default_factory=dict)
    """Specification of a third party's model -> sha256 of its weights."""

    def write(
        self, plan: Plan, data: Dataset, outcomes: Sequence[Outcome], seconds: Mapping[str, float]
    ) -> None:
        """Put this invocation into the manifest, at its start and again at its end, with the `seconds` of jobs."""
        old = read(self.folder)
        me = (self.command, self.started)
        earlier = [i for i in old.get("invocations", []) if (i["command"], i["started"]) != me]
        done = sum(outcome.error is None for outcome in outcomes)
        sizes = {
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        }
        facts = {
            "fingerprint": data.fingerprint(), **sizes, "note": data.note, "classes": list(data.classes),
        }  # fmt: skip
        content = {
            "suite": plan.suite.name,
            "started": old.get("started", self.started),
            "data": {**old.get("data", {}), data.name: facts},
            "weights": {**old.get("weights", {}), **self.weights},
            "invocations": [*earlier, self._invocation(plan, done, len(outcomes))],
            "seconds": {**old.get("seconds", {}), **seconds},
        }  # fmt: skip
        write_json(self.folder / "manifest.json", content)

    def reports(self, plan: Plan) -> bool:
        """Whether the last invocation knew the tables and names that the suite asks for now; not if there was none."""
        earlier = read(self.folder).get("invocations", [])
        known = earlier[-1].get("definition", {}) if earlier else {}
        asked = _plain(plan.suite.model_dump(include={"tables", "names"}))
        return {name: known.get(name) for name in asked} == asked

    def _invocation(self, plan: Plan, done: int, ended: int) -> dict[str, Any]:
        return {
            "command": self.command, "started": self.started, "ended": now(),
            "workers": self.workers, "device": self.device, "done": done, "failed": ended - done,
            "versions": versions(), "commit": commit(),
            "machine": {
                "system": platform.platform(), "processor": platform.machine(),
                "cores": os.cpu_count(), "device": _device(self.device),
            },
            "definition": plan.suite.model_dump(),
        }  # fmt: skip


def _plain(value: Any) -> Any:
    """As it is read again from JSON."""
    return json.loads(json.dumps(value))


def _device(name: str) -> str:
    if not name.startswith("cuda"):
        return "cpu"
    import torch

    # the GPUs may be in other machines of a cluster
    return torch.cuda.get_device_name(name) if torch.cuda.is_available() else name
