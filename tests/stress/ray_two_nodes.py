"""A suite on a Ray cluster of two nodes of this machine, one killed in the middle: are the records the same?

    python tests/stress/ray_two_nodes.py [SUITE] [FOLDER]

The suite (smoke by default) runs with one worker process first, then on the cluster; FOLDER keeps both runs. A node has
one core; the second is lost once half of the jobs are done and each node has one in flight. Exit status 1 if a byte of
records.csv differs, or if the run's log does not say that a job was lost with its node.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from benchmark.running import live


def bench(*words: str) -> subprocess.Popen[str]:
    """A `bench` command, its lines to be read from stderr."""
    command = [sys.executable, "-m", "benchmark.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def spread(suite: str, folder: Path) -> int:
    """Run on the cluster, losing a node on the way; the exit status of the run."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = cluster.add_node(num_cpus=1)
        words = ("run", "--suite", suite, "--out", str(folder), "--executor", "ray")
        run = bench(*words, "--address", cluster.address)
        assert run.stderr is not None
        for line in run.stderr:
            done = re.match(r" *(\d+)/(\d+) ", line)
            if done and other is not None and 2 * int(done[1]) >= int(done[2]):
                while len(at := live.notes(folder)) < 2 and run.poll() is None:
                    time.sleep(0.02)
                kill(other)
                cluster.remove_node(other, allow_graceful=False)
                titles = " and ".join(note.title for note in at)
                print(f"after job {done[1]} of {done[2]}, during {titles}: a node killed")
                other = None
        status = run.wait()
    finally:
        cluster.shutdown()
    assert other is None, "the run ended before the node was killed"
    return status


def kill(node: Any) -> None:
    """All of a node at once, as by a power cut: workers that outlive it for a second may still hand in their job."""
    (raylet,) = node.all_processes["raylet"]
    words = ["pgrep", "-P", str(raylet.process.pid)]
    children = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    for pid in (raylet.process.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    suite = sys.argv[1] if len(sys.argv) > 1 else "smoke"
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="ray-"))
    began = time.perf_counter()
    alone = bench("run", "--suite", suite, "--out", str(folder / "alone"), "--workers", "1")
    alone.communicate()
    print(
        f"{suite}: one worker: status {alone.returncode}, {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    began = time.perf_counter()
    status = spread(suite, folder / "spread")
    print(f"{suite}: two nodes, one killed: status {status}, {time.perf_counter() - began:.0f} s")
    log = (folder / "spread/log.txt").read_text(encoding="utf-8").splitlines()
    lost = [line for line in log if "its worker died" in line]
    print("\n".join(lost) or "NO JOB WAS IN FLIGHT on the node: this shows nothing, try again")
    one, two = ((folder / name / "records.csv").read_bytes() for name in ("alone", "spread"))
    same = one == two
    print(
        f"records.csv of {len(one.splitlines()) - 1} rows: {'the same bytes' if same else 'DIFFERENT'}"
    )
    sys.exit(not (same and lost))


if __name__ == "__main__":
    main()
