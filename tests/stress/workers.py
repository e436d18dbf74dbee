"""How much faster several workers are than one: the same suite into two empty folders, and the ratio of their times.

    python tests/stress/workers.py [--suite quick] [--workers 2]

Exit status 0 if both runs have the same records to the last byte. The ratio is printed, not judged: it is the
machine's.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load before the runs {load:.1f}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as place:
        folders = {count: Path(place, str(count)) for count in (1, asked.workers)}
        seconds = {count: timed(asked.suite, folder, count) for count, folder in folders.items()}
        same = len({(folder / "records.csv").read_bytes() for folder in folders.values()}) == 1
    for count, taken in seconds.items():
        print(f"{count} worker(s): {taken:.1f} s")
    print(
        f"ratio {seconds[1] / seconds[asked.workers]:.2f}; records {'the same' if same else 'DIFFER'}"
    )
    return 0 if same else 1


def timed(suite: str, folder: Path, workers: int) -> float:
    words = ["run", "--suite", suite, "--out", str(folder), "--workers", str(workers), "--quiet"]
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchmark.cli", *words], check=True)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
