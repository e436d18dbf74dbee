"""A suite on a Ray cluster of two nodes of this machine, one killed in the middle: are the records the same?

    python tests/stress/ray_two_nodes.py [SUITE] [FOLDER]

The suite (smoke by default) runs with one worker process first, then on the cluster; FOLDER keeps both runs. A node has
one core; the second is lost once half of the jobs are done. Exit status 1 if a byte of records.csv differs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster


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
                cluster.remove_node(other, allow_graceful=False)
                print(f"after job {done[1]} of {done[2]}: a node killed", flush=True)
                other = None
        status = run.wait()
    finally:
        cluster.shutdown()
    assert other is None, "the run ended before the node was killed"
    return status


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
    one, two = ((folder / name / "records.csv").read_bytes() for name in ("alone", "spread"))
    same = one == two
    print(
        f"records.csv of {len(one.splitlines()) - 1} rows: {'the same bytes' if same else 'DIFFERENT'}"
    )
    sys.exit(not same)


if __name__ == "__main__":
    main()
