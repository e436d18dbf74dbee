"""Parameters out of what a file holds, and into a network: every one of them, name by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from benchmark.models.base import ModelError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "model.", "net.")


def parameters(
    loaded: object,
    key: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    own: Collection[str] = (),
) -> dict[str, Tensor]:
    """The parameters in the loaded object, by name, without the prefixes that wrappers give.

    A prefix of all the network's `own` names is none of a wrapper's.
    """
    found = _follow(loaded, key) if key else _unwrap(loaded)
    if not isinstance(found, Mapping):
        raise ModelError(f"holds no parameters by name but a {_kind(found)}; name them with key=")
    named = {str(name): value for name, value in found.items()}
    state = {name: v for name, v in named.items() if not set(ignore) & set(name.split("."))}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            keys = ", ".join(map(str, list(found)[:5]))
            raise ModelError(
                f"entry {name!r} is a {_kind(value)}, not a tensor; entries: {keys}; name one with key="
            )
    if not state:
        raise ModelError("holds no parameters")
    for prefix in _PREFIXES:
        if _begin(state, prefix) and not _begin(own, prefix):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _begin(names: Collection[str], prefix: str) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def _follow(found: object, key: tuple[str, ...]) -> object:
    for depth, part in enumerate(key):
        place = f" at {'.'.join(key[:depth])!r}" if depth else ""
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list | tuple) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            raise ModelError(
                f"key={'.'.join(key)}: there is no {part!r}{place}, which is a {_kind(found)}"
            )
    return found


def _unwrap(found: object) -> object:
    """Out of the usual wrappers: {"state_dict": ...}, a list of one."""
    for _ in range(5):  # a file may hold a mapping that holds itself
        if isinstance(found, Mapping):
            kept = [found[name] for name in _WRAPPERS if name in found]
            inner = [value for value in kept if isinstance(value, Mapping | list | tuple) and value]
            if not inner:
                return found
            found = inner[0]
        elif isinstance(found, list | tuple) and len(found) == 1:
            found = found[0]
        elif isinstance(found, list | tuple):
            raise ModelError(f"holds a {_kind(found)}; name one with key=, as in key=state_dict.0")
        else:
            return found
    raise ModelError("wraps its parameters too deeply; name them with key=")


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"mapping with keys {', '.join(map(str, list(value)[:5]))}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


Tolerated = Callable[[str], bool]


def _counter(name: str) -> bool:
    """Whether it is a count of batches, which old files do not have and inference does not use."""
    return name.endswith("num_batches_tracked")


def fill(
    net: nn.Module,
    state: Mapping[str, Tensor],
    title: str,
    may_miss: Tolerated = _counter,
    may_exceed: Tolerated = lambda name: False,
) -> None:
    """Put the parameters into the network `title`, every one of them, all finite."""
    own = net.state_dict()
    missing = [name for name in own if name not in state and not may_miss(name)]
    unexpected = [name for name in state if name not in own and not may_exceed(name)]
    if missing or unexpected:
        parts = [f"{what} {', '.join(names[:3])}{', ..' * (len(names) > 3)}" for what, names in
                 (("misses", missing), ("has in excess", unexpected)) if names]  # fmt: skip
        raise ModelError(f"is not a {title}: the file {' and '.join(parts)}")
    for name, value in state.items():
        if name in own and value.shape != own[name].shape:
            ours, theirs = tuple(own[name].shape), tuple(value.shape)
            raise ModelError(
                f"{name} has shape {theirs} in the file, {ours} in {title} for these images"
            )
    check_finite(state)
    net.load_state_dict(dict(state), strict=False)


def check_finite(state: Mapping[str, Tensor]) -> None:
    """ModelError that names the first parameter with NaN or infinite numbers."""
    for name, value in state.items():
        if not value.isfinite().all():
            raise ModelError(
                f"{name} holds NaN or infinite numbers: its training diverged or the file is damaged; take another"
            )
