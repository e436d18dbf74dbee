"""Kill a run at random moments, continue it each time, and compare its records with those of an undisturbed run.

    python tests/stress/kills.py [--kills 20] [--suite smoke] [--workers 2] [--seed 0]

SIGKILL goes to the whole group of processes. Moments are drawn uniformly over the time that an undisturbed run takes,
so that some fall into its start and some into its report; a run that ends before its moment is compared, and begun
anew in an empty folder. Exit status 0 if every record is the same to the last byte, and nothing half written or
damaged is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark.store import Store


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--suite", default="smoke")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(
        f"suite {asked.suite}, {asked.workers} workers, {asked.kills} kills, seed {asked.seed}",
        flush=True,
    )
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        calm, killed = Path(place, "calm"), Path(place, "killed")
        began = time.monotonic()
        assert start(asked, calm).wait() == 0, "the undisturbed run failed"
        usual = time.monotonic() - began
        print(f"undisturbed: {usual:.1f} s", flush=True)
        outcomes = [
            disturb(asked, killed, chance.uniform(0, usual), calm) for _ in range(asked.kills)
        ]
        assert start(asked, killed).wait() == 0, "the last run failed"
        outcomes.append(compare(calm, killed))
    same = all(outcomes)
    print(f"{asked.kills} kills: {'the records are the same' if same else 'THE RECORDS DIFFER'}")
    return 0 if same else 1


def start(asked: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    words = ["run", "--suite", asked.suite, "--out", str(folder), "--workers", str(asked.workers)]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmark.cli", *words],
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


def disturb(asked: argparse.Namespace, folder: Path, moment: float, calm: Path) -> bool:
    """One kill after `moment` seconds; whether all is well."""
    process = start(asked, folder)
    try:
        status = process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = len(list(folder.glob("store/cells/*.safetensors")))
        print(f"killed after {moment:5.1f} s with {done} cells done", flush=True)
        return sound(folder)
    print(f"finished before {moment:5.1f} s, status {status}: compared, and begun anew", flush=True)
    well = status == 0 and compare(calm, folder)
    shutil.rmtree(folder)
    return well and disturb(asked, folder, moment, calm)


def sound(folder: Path) -> bool:
    """Every result of the store is what was written to it."""
    for path in folder.glob("store/*/[!.]*.safetensors"):
        Store(folder).info(path.parent.name, path.stem)  # IntegrityError if it is not
    return True


def compare(calm: Path, killed: Path) -> bool:
    """Whether two finished runs have the same records, and left nothing unfinished."""
    names = ("records.csv", "samples.parquet", "verdicts.parquet")
    differ = [n for n in names if (calm / n).read_bytes() != (killed / n).read_bytes()]
    left = [
        str(p.relative_to(killed))
        for p in (*killed.rglob(".writing-*"), killed / "running")
        if p.exists()
    ]
    for what, found in (("differ", differ), ("left unfinished", left)):
        if found:
            print(f"{what}: {', '.join(found)}", flush=True)
    return sound(killed) and not differ and not left


if __name__ == "__main__":
    sys.exit(main())
