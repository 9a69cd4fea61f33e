"""Profile: a named compute shape; the same one serves a notebook server, a step, a job and a model instance."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints

from themisto.types import Model, Slug

__all__ = ["Gpu", "Profile", "ProfileName", "Use"]

ProfileName = Slug
Use = Literal["notebook", "step", "job", "model"]


class Gpu(Model):
    """Whole GPUs, or slices of one (NVIDIA MIG).

    mig: the slice's profile as the driver calls it, e.g. `1g.10gb`; None for whole GPUs.
    """

    count: PositiveInt = 1
    mig: Annotated[str, StringConstraints(pattern=r"^[1-7]g\.[0-9]+gb(\+me)?$")] | None = None

    def __str__(self) -> str:
        return f"{self.count} x {f'MIG {self.mig}' if self.mig else 'GPU'}"


class Profile(Model):
    """What a server may use, who may start it, and what it costs."""

    name: ProfileName
    display_name: Annotated[str, Field(min_length=1, max_length=80)]
    description: Annotated[str, Field(max_length=300)] = ""
    cpu: PositiveFloat = Field(description="cores")
    memory_gib: PositiveFloat
    gpu: Gpu | None = None
    images: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9_./:@-]{0,254}$")], ...] = Field(
        min_length=1, description="container images to choose from, the first by default; local processes need none"
    )
    groups: tuple[Slug, ...] = Field(min_length=1, description="whose members may use it")
    price_per_hour: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]
    uses: tuple[Use, ...] = Field(("notebook",), min_length=1)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * 2**30)

    @property
    def shape(self) -> str:
        """The compute in words: `2 CPU, 4 GiB, no GPU`."""
        return f"{self.cpu:g} CPU, {self.memory_gib:g} GiB, {self.gpu or 'no GPU'}"
