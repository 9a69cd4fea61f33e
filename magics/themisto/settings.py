"""Settings of a kernel: where the workbench is, and what to use where there is none.

Precedence: keyword > environment (`THEMISTO_…`) > file (`themisto.toml` in the user's configuration
directory) > default. A file in the working directory does not count: it may come with a clone, and
would decide where the hub's token is sent.
"""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_config_path, user_data_path
from pydantic import Field, PositiveFloat, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from themisto.errors import MissingSetting

__all__ = ["FileSettings", "Settings"]


class FileSettings(BaseSettings):
    """Settings by keyword, else environment, else the TOML file that `model_config` names, else default."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


class Settings(FileSettings):
    """What a kernel needs to know. Only `url` is needed to reach a workbench."""

    model_config = SettingsConfigDict(env_prefix="THEMISTO_", toml_file=user_config_path("themisto") / "themisto.toml")

    url: str | None = Field(None, description="the control plane, e.g. https://hub.example.com/services/themisto")
    token: SecretStr | None = Field(None, description="the hub's token; default: JUPYTERHUB_API_TOKEN")
    group: str | None = Field(None, description="the group to act for; default: the first of the caller's groups")
    home: Path = Field(
        default_factory=lambda: user_data_path("themisto"),
        description="where track, features and pipelines keep local files when there is no workbench",
    )
    pipelines: str | None = Field(
        None, description="where %pipeline submit sends pipelines: kfp+https://host[/path][?namespace=…]"
    )
    pipelines_token: SecretStr | None = Field(None, description="bearer token for that server")
    image: str = Field("themisto/notebook", description="container image of pipeline steps that name no profile")
    features_memory_gib: PositiveFloat | None = Field(
        None,
        description="memory of a join or SQL, GiB; more goes to disk. Default: DuckDB's, 80 % of all",
    )
    features_spill: Path | None = Field(None, description="folder for what does not fit; default: spill below home")
    features_spill_gib: PositiveFloat | None = Field(
        None, description="how much of that disk may be used, GiB; default: all that is free"
    )
    features_sql_budget_s: PositiveFloat = Field(600.0, description="how long a SQL cell or source may run, seconds")
    features_engine: str | None = Field(
        None, description="who joins: spark+local[2] or spark+spark://host:7077; default: DuckDB, here"
    )
    timeout_s: float = Field(30.0, description="for each call to the control plane, seconds")

    @property
    def embedded(self) -> bool:
        """True where there is no workbench: verbs work on local files."""
        return self.url is None

    def require_url(self, verb: str) -> str:
        """The control plane's URL, or MissingSetting naming the verb that needs it."""
        if self.url is None:
            raise MissingSetting(
                f"%{verb} needs a workbench, and THEMISTO_URL is not set.",
                "Start this notebook from the workbench, or set THEMISTO_URL and THEMISTO_TOKEN.",
            )
        return self.url.rstrip("/")
