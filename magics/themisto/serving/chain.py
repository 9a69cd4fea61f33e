"""Chain: Python before a model, the model, Python after it, deployed as one; and the plan it travels as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from themisto.errors import Invalid
from themisto.serving.models import Kind, Signature
from themisto.serving.packed import pack, unpack
from themisto.types import Model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Chain", "Part", "Plan"]

_PLAN = "chain.json"


@dataclass(frozen=True)
class Chain:
    """`Chain(pre, model, post)`: what is deployed as a Triton ensemble of up to three models.

    pre: a function of the request's DataFrame; what it returns are columns for the model, which takes
        from the request what `pre` does not return. None: the model takes the request as it is.
    model: anything that can be deployed by itself.
    post: a function of a DataFrame with the request's columns and the model's answers beside them, which
        win where names meet. What it returns is answered. None: the model's answers are.
    """

    pre: Callable[[pd.DataFrame], Any] | None
    model: Any
    post: Callable[[pd.DataFrame], Any] | None = None


class Part(Model):
    """One model of a chain.

    reads: its inputs to tensors of the chain: a column of the request by its name, another part's
        output as `pre:amount`.
    """

    name: Literal["pre", "model", "post"]
    kind: Kind
    signature: Signature
    reads: Mapping[str, str]


class Plan(Model):
    """The parts of a chain, in their order; the last one's outputs are the chain's."""

    parts: tuple[Part, ...]

    def tensor(self, part: Part, output: str) -> str:
        """What a part's output is called among the chain's tensors."""
        return output if part.name == self.parts[-1].name else f"{part.name}:{output}"

    def packed(self, artifacts: Mapping[str, bytes]) -> bytes:
        """The chain as one artifact; `artifacts` by the names of the parts."""
        return pack({_PLAN: self.model_dump_json(), **artifacts})

    @classmethod
    def read(cls, artifact: bytes) -> tuple[Plan, dict[str, bytes]]:
        """A chain and its parts' artifacts. Raises Invalid for what is none."""
        found = unpack(artifact, _PLAN)
        try:
            plan = cls.model_validate_json(found[_PLAN])
        except ValidationError as error:
            raise Invalid(f"{_PLAN} in the artifact is no chain: {error}", "Deploy it again.") from None
        names = [part.name for part in plan.parts]
        if not names or len(set(names)) != len(names) or any(part.kind == "chain" for part in plan.parts):
            raise Invalid("A chain has one to three different parts, none of them a chain.", "Deploy it again.")
        for name in names:
            if name not in found:
                raise Invalid(f"The artifact has no {name}.", "Deploy it again.")
        return plan, {name: found[name] for name in names}
