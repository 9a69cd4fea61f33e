"""The contract with callers: what a new release would break for those who call the one that answers now.

A model server takes a request when it has every input, of the very datatype and shape, and nothing
else (Open Inference Protocol; Triton refuses inputs that it does not know). So for a caller who goes
on sending what she sends now, an input that is new, gone, or of another type is an error, and so is
an output that she reads and that is gone or of another type. Outputs that are new disturb nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from themisto.serving.models import Column, Signature
from themisto.types import Model

__all__ = ["Contract", "breaks"]


class Contract(Model):
    """What callers hold on to: the signature; with a feature service, the keys they may send instead."""

    signature: Signature
    supplied: frozenset[str] = frozenset()
    """Columns that the gateway looks up for who sends entity keys."""
    keys: tuple[str, ...] | None = None
    """The entity keys; None without a feature service: callers send every input."""


def breaks(now: Contract, new: Contract) -> tuple[str, ...]:
    """Each difference that breaks a caller of `now`, as a sentence without its full stop; none: `new` fits.

    Inputs that a feature service supplies count only where `now` has none: then callers send all the
    inputs themselves, and the gateway looks nothing up for a request that names some.
    """
    if now.keys is None:
        return (*_inputs(now.signature.inputs, new.signature.inputs), *_outputs(now, new))
    # Without a service everything that the old one supplies is missing, which its keys' sentence says.
    supplied = now.supplied if new.keys is None else new.supplied
    old_inputs = [c for c in now.signature.inputs if c.name not in now.supplied]
    new_inputs = [c for c in new.signature.inputs if c.name not in supplied]
    return (*_keys(now.keys, new.keys), *_inputs(old_inputs, new_inputs), *_outputs(now, new))


def _keys(now: Collection[str], new: Collection[str] | None) -> Iterator[str]:
    if new is None:
        yield f"callers send {_list(now)} alone, and it has no feature service to look the rest up"
    elif set(now) != set(new):
        yield f"callers send the entity keys {_list(now)}, and it looks features up by {_list(new)}"


def _inputs(now: Collection[Column], new: Collection[Column]) -> Iterator[str]:
    before, after = _by_name(now), _by_name(new)
    gone = [c for c in now if c.name not in after]
    added = [c for c in new if c.name not in before]
    if len(gone) == len(added) == 1 and _kind(gone[0]) == _kind(added[0]):
        yield f"the input '{gone[0].name}' is called '{added[0].name}'"
    else:
        yield from (f"the input '{c.name}' is gone, and the model server refuses what it does not know" for c in gone)
        yield from (f"the input '{c.name}' ({_kind(c)}) is newly required" for c in added)
    yield from _changed("input", before, after)


def _outputs(now: Contract, new: Contract) -> Iterator[str]:
    before, after = _by_name(now.signature.outputs), _by_name(new.signature.outputs)
    yield from (f"the output '{name}' is gone" for name in before if name not in after)
    yield from _changed("output", before, after)


def _changed(side: str, before: Mapping[str, Column], after: Mapping[str, Column]) -> Iterator[str]:
    for name, old in before.items():
        new = after.get(name)
        if new is not None and _kind(old) != _kind(new):
            yield f"the {side} '{name}' is {_kind(new)} and was {_kind(old)}"


def _by_name(columns: Collection[Column]) -> dict[str, Column]:
    return {column.name: column for column in columns}


def _kind(column: Column) -> str:
    shape = "" if column.shape == (1,) else f" of shape {list(column.shape)}"
    return f"{column.dtype}{shape}"


def _list(names: Collection[str]) -> str:
    return " and ".join(names)
