"""`bench`: the commands under one name, and what becomes of their errors. No torch before it is needed.

Exit status: 0 all done; 1 some cells failed; 2 usage or suite error; 3 a FAIL of preflight or masking under --strict;
4 interrupted, continue with the same command; 5 a stored file is damaged. Of `verify`: 1 something differs; of
`compare`: 1 a gate does not hold.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from rich.markup import escape

from benchmark.commands import (
    compare,
    doctor,
    export,
    list_,
    plan,
    report,
    run,
    show,
    status,
    train,
    verify,
)
from benchmark.commands._shared import err
from benchmark.errors import BenchError

app = typer.Typer(
    name="bench",
    help="Robustness and interpretability of image classifiers, measured on the same checkpoints in one run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Start with: bench run --suite smoke",
)
# in the order of --help
app.command("list")(list_.list_)
_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    show.show: ("bench show trades", "bench show ./mine.py"),
    plan.plan: ("bench plan --suite methods --dataset mnist --workers 4",),
    run.run: (
        "bench run --suite smoke",
        "bench run --suite quick --trainer none --model file:theirs.pt@preact_resnet18",
        "bench run --suite sagr2023 --scale choice --split validation",
    ),
    train.train: ("bench train --trainer trades --set beta=6 --recipe epochs=20 --out trades.safetensors",),
    report.report: (
        "bench report results/quick",
        "bench report results/quick --table main --format latex --textwidth 397",
    ),
    compare.compare: (
        "bench compare results/smoke --order 'standard < sagr < pgd_at' --measure pgd",
        "bench compare results/old results/new --gate auto_attack:0.01",
    ),
    export.export: (),
    status.status: ("bench status results/quick",),
    verify.verify: ("bench verify results/quick",),
    doctor.doctor: (),
}  # fmt: skip
for command, examples in _EXAMPLES.items():
    app.command(epilog="\n\n".join(("Examples:" * bool(examples), *examples)).strip())(command)


def main() -> None:
    """Entry point of the `bench` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BenchError as error:
        _leave(str(error), error.status)
    except OSError as error:
        _leave(f"{error.strerror or error}: {error.filename or 'no file named'}", 1)


def _leave(message: str, status: int) -> NoReturn:
    err.print(f"[bold red]bench:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
