"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

# one thread a process, as the harness's workers have: two test processes of two threads each would only get in each
# other's way, and sums of floats do not depend on the machine's cores
os.environ["OMP_NUM_THREADS"] = "1"

import torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets and third-party checkpoints, where the checkout has them beside it."""
    folder = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data files at {folder}")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Modules a test builds start from the same weights whatever ran before it in the same process."""
    torch.manual_seed(0)
