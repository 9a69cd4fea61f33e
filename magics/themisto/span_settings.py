"""Settings of spans: where they go and how many, for notebooks and servers alike."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any

from platformdirs import user_config_path
from pydantic import AfterValidator, AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from themisto.settings import FileSettings

__all__ = ["Collector", "SpanSettings", "traces_url"]

_ADDRESS = re.compile(r"https?://[^\s/?#@,\"'\\]{1,250}(/[^\s?#,\"'\\]{0,250})?")


def _address(value: str) -> str:
    """An address that says nothing but where: no user, no query, nothing that a command line would cut."""
    if not _ADDRESS.fullmatch(value):
        msg = "it is no address such as http://127.0.0.1:4318, without user and query"
        raise ValueError(msg)
    return value


Collector = Annotated[str, AfterValidator(_address)]

_SAMPLERS = ("always_on", "always_off", "traceidratio")
_DEFAULT_SAMPLER = "parentbased_always_on"


def _names(name: str) -> AliasChoices:
    """Told by THEMISTO_OTEL_…, only we listen; by the plain name, every library that knows OpenTelemetry."""
    return AliasChoices(f"themisto_{name}", name)


class SpanSettings(FileSettings):
    """Where spans go and how many, by OpenTelemetry's own variables; in a themisto.toml by the same names in small.

    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """

    model_config = SettingsConfigDict(toml_file=user_config_path("themisto") / "themisto.toml")

    otel_exporter_otlp_endpoint: Collector | None = Field(
        None,
        validation_alias=_names("otel_exporter_otlp_endpoint"),
        description="the collector, OTLP over HTTP, e.g. http://127.0.0.1:4318; none: no span is made",
    )
    otel_traces_sampler: str = Field(
        _DEFAULT_SAMPLER,
        validation_alias=_names("otel_traces_sampler"),
        description="which traces: always_on, always_off, traceidratio, or parentbased_ before one",
    )
    otel_traces_sampler_arg: float = Field(
        1.0,
        validation_alias=_names("otel_traces_sampler_arg"),
        description="the share for traceidratio, 0 to 1",
        ge=0,
        le=1,
    )

    @field_validator("otel_exporter_otlp_endpoint", "otel_traces_sampler", "otel_traces_sampler_arg", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("otel_traces_sampler")
    @classmethod
    def _unknown_is_the_default(cls, value: str) -> str:
        if value.removeprefix("parentbased_") in _SAMPLERS:
            return value
        said = f"OTEL_TRACES_SAMPLER is {value}, which is not known here; {_DEFAULT_SAMPLER} counts."
        warnings.warn(said, stacklevel=2)
        return _DEFAULT_SAMPLER

    @property
    def traces_url(self) -> str | None:
        """Where spans are posted, or None."""
        return traces_url(self.otel_exporter_otlp_endpoint)

    @property
    def follows_caller(self) -> bool:
        """Whoever began the trace has decided whether it is recorded."""
        return self.otel_traces_sampler.startswith("parentbased_")

    @property
    def share(self) -> float:
        """The share of traces that begin here which are recorded, 0 to 1."""
        root = self.otel_traces_sampler.removeprefix("parentbased_")
        return {"always_on": 1.0, "always_off": 0.0}.get(root, self.otel_traces_sampler_arg)

    @property
    def span_environment(self) -> dict[str, str]:
        """The same settings for our part of another process; empty where no span is made."""
        if not self.otel_exporter_otlp_endpoint:
            return {}
        return {f"THEMISTO_{name.upper()}": str(getattr(self, name)) for name in SpanSettings.model_fields}


def traces_url(collector: str | None) -> str | None:
    """Where a collector takes spans, by OTLP's own path."""
    return f"{collector.rstrip('/')}/v1/traces" if collector else None
