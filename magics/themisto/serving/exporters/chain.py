"""Chains as Triton ensembles: each part by its own exporter, joined by the names of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from themisto.errors import Invalid
from themisto.serving.chain import Chain, Part, Plan
from themisto.serving.exporter import Export, Exporter, exporter_for
from themisto.serving.exporters.function import Function
from themisto.serving.frame import columns_of, pick, to_frame
from themisto.serving.models import Column, Signature
from themisto.serving.portable.values import frame_of

if TYPE_CHECKING:
    import pandas as pd

    from themisto.serving.frame import Tensors

__all__ = ["Chains"]


class Chains:
    """`themisto.serving.Chain(pre, model, post)`."""

    packages: tuple[str, ...] = ("numpy", "pandas")

    def __init__(self, *, native: bool = False) -> None:
        self._native = native

    def as_native(self) -> Chains:
        """The same, with the model in its own library."""
        return Chains(native=True)

    def accepts(self, model: object) -> bool:
        return isinstance(model, Chain)

    def columns(self, model: Any) -> tuple[str, ...] | None:
        _require_functions(model)
        return None if model.pre is not None else self._inner(model).columns(model.model)

    def answers(self, model: Any, frame: pd.DataFrame) -> Tensors:
        walk = _Walk(model, self._inner(model), frame)
        return walk.after() if model.post is not None else walk.answered

    def export(self, model: Any, frame: pd.DataFrame) -> Export:
        walk = _Walk(model, self._inner(model), frame)
        parts, artifacts = [], {}
        for name, export, given in walk.exported():
            reads = {c.name: given[c.name] for c in export.signature.inputs}
            parts.append(Part(name=name, kind=export.kind, signature=export.signature, reads=reads))
            artifacts[name] = export.data
        plan = Plan(parts=tuple(parts))
        read = {tensor for part in parts for tensor in part.reads.values()}
        signature = Signature(
            inputs=tuple(c for c in columns_of(frame) if c.name in read), outputs=parts[-1].signature.outputs
        )
        _require_apart(signature)
        return Export(kind="chain", data=plan.packed(artifacts), signature=signature)

    def _inner(self, model: Any) -> Exporter:
        found = exporter_for(model.model, native=self._native)
        if isinstance(found, Chains):
            raise Invalid("The model of a chain is a chain.", "Put all of it into one pre, model and post.")
        return found


class _Walk:
    """A chain asked with a sample: what goes into each part and comes out of it."""

    def __init__(self, chain: Chain, inner: Exporter, frame: pd.DataFrame) -> None:
        self._chain, self._inner, self._frame = chain, inner, frame
        self._before: Tensors = {}
        self._before_columns: tuple[Column, ...] = ()
        if chain.pre is not None:
            self._before = Function().answers(chain.pre, frame)
            self._before_columns = Function().outputs(chain.pre, frame)
            _require_narrow(chain.pre, self._before_columns)
        self._given, self._sources = self._for_model()
        self.answered = inner.answers(chain.model, self._given)

    def after(self) -> Tensors:
        """What `post` answers to the model's own answers."""
        frame, _ = self._for_post(_stated(self.answered))
        return Function().answers(self._chain.post, frame)

    def exported(self) -> Sequence[tuple[Any, Export, dict[str, str]]]:
        """Each part: its name, its export, and for each column it could read the tensor that this is."""
        found: list[tuple[Any, Export, dict[str, str]]] = []
        request = columns_of(self._frame)
        plain = {c.name: c.name for c in request}
        if self._chain.pre is not None:
            found.append(("pre", Function().export(self._chain.pre, self._frame), plain))
        model = self._inner.export(self._chain.model, self._given)
        self._require_types(model.signature.inputs, request)
        found.append(("model", model, self._sources))
        if self._chain.post is not None:
            outputs = model.signature.outputs
            frame, columns = self._for_post(outputs)
            sources = plain | {c.name: f"model:{c.name}" for c in outputs}
            found.append(("post", Function().exported(self._chain.post, frame, columns), sources))
        return found

    def _for_model(self) -> tuple[pd.DataFrame, dict[str, str]]:
        """The model's frame, and the tensor of each of its columns: of `pre` where that has it."""
        import pandas as pd

        made = to_frame(self._before, self._frame.index, self._before_columns)
        rest = self._frame[[c for c in self._frame.columns if c not in made.columns]]
        whole = pd.concat([made, rest], axis=1)
        names = self._inner.columns(self._chain.model)
        if names is None:
            names = tuple(map(str, made.columns if self._before else self._frame.columns))
        picked = pick(whole, names, whose="the model of the chain")
        return picked, {n: f"pre:{n}" if n in self._before else n for n in names}

    def _for_post(self, outputs: Sequence[Column]) -> tuple[pd.DataFrame, tuple[Column, ...]]:
        """`post`'s frame: the request's columns that the chain takes anyway, then the model's answers."""
        import pandas as pd

        names = {c.name for c in outputs}
        request = self._frame[[c for c in self._frame.columns if str(c) not in names]]
        answers = frame_of({c.name: self.answered[c.name] for c in outputs}, outputs, self._frame.index)
        return pd.concat([request, answers], axis=1), (*columns_of(request), *outputs)

    def _require_types(self, inputs: Sequence[Column], request: Sequence[Column]) -> None:
        """What the model takes must be what `pre` or the request gives, to the datatype."""
        given = {c.name: c for c in request} | {c.name: c for c in self._before_columns}
        for column in inputs:
            if given[column.name].dtype != column.dtype:
                raise Invalid(
                    f"The chain's model takes '{column.name}' as {column.dtype}, and is given it as "
                    f"{given[column.name].dtype}.",
                    f"Convert it in pre: df['{column.name}'].astype(…), and say so in its return annotation.",
                )


def _stated(answers: Tensors) -> tuple[Column, ...]:
    """The model's own answers as columns: numbers as they are, before an export makes them FP32."""
    kinds: dict[str, Any] = {"b": "BOOL", "i": "INT64", "f": "FP64", "O": "BYTES"}
    return tuple(Column(name=n, dtype=kinds[a.dtype.kind], shape=a.shape[1:]) for n, a in answers.items())


def _require_functions(chain: Chain) -> None:
    for name, function in (("pre", chain.pre), ("post", chain.post)):
        if function is not None and not Function().accepts(function):
            raise Invalid(
                f"The chain's {name} is a {type(function).__name__}, not a function.",
                "Write it as def …(df): …, or give None.",
            )


def _require_narrow(pre: Any, columns: Sequence[Column]) -> None:
    for column in columns:
        if column.shape != (1,):
            raise Invalid(
                f"'{pre.__name__}' returns '{column.name}' with several values a row.",
                "Return a DataFrame: a column for each value.",
            )


def _require_apart(signature: Signature) -> None:
    """Triton knows a tensor by its name: what comes in and what goes out cannot share one."""
    both = {c.name for c in signature.inputs} & {c.name for c in signature.outputs}
    if both:
        name = min(both)
        raise Invalid(
            f"'{name}' is both a column that comes in and an answer that goes out of the chain.",
            f"Name the answer otherwise in post, or leave '{name}' out of the sample.",
        )
