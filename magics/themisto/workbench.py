"""The composition root: settings to the five services, each built when it is first asked for."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from themisto.client import ControlPlane
    from themisto.features.service import Features
    from themisto.pipelines.service import Pipelines
    from themisto.schedules.service import Schedules
    from themisto.serving.service import Serving
    from themisto.settings import Settings
    from themisto.tracking.service import Tracking

__all__ = ["Workbench", "service_method", "workbench"]


class Workbench:
    """One person's way into the five verbs.

    Building it costs nothing; each service imports what it needs when first used.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings

    @cached_property
    def settings(self) -> Settings:
        from themisto.settings import Settings

        return self._given or Settings()

    @cached_property
    def control(self) -> ControlPlane:
        """The control plane. Raises MissingSetting without THEMISTO_URL."""
        from themisto.client import ControlPlane

        return ControlPlane(self.settings)

    @cached_property
    def tracking(self) -> Tracking:
        from themisto.tracking.service import Tracking

        return Tracking(self.settings, None if self.settings.embedded else self.control)

    @cached_property
    def features(self) -> Features:
        from themisto.features.service import Features

        return Features(self.settings, None if self.settings.embedded else self.control)

    @cached_property
    def pipelines(self) -> Pipelines:
        from themisto.pipelines.service import Pipelines

        return Pipelines(self.settings)

    @cached_property
    def serving(self) -> Serving:
        """Raises MissingSetting without THEMISTO_URL: there is nothing to deploy to."""
        from themisto.serving.service import Serving

        self.settings.require_url("deploy")
        return Serving(self.settings, self.control, self.tracking)

    @cached_property
    def schedules(self) -> Schedules:
        """Raises MissingSetting without THEMISTO_URL: nothing would run the schedule."""
        from themisto.schedules.service import Schedules

        self.settings.require_url("schedule")
        return Schedules(self.settings, self.control)


_current: Workbench | None = None


def workbench() -> Workbench:
    """The process-wide workbench, made from the settings on first use."""
    global _current
    if _current is None:
        _current = Workbench()
    return _current


def service_method(module: str, public: Collection[str], name: str) -> Any:
    """For a verb's package: its service's method `name`. Raises AttributeError for what is not public."""
    if name not in public:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    return getattr(getattr(workbench(), module.rpartition(".")[2]), name)
