"""Which topics a group may read into its views: those that the platform allows it, none by default."""

from __future__ import annotations

from themisto.errors import Refused
from themisto.features.models import FeatureView
from themisto_hub.control.auth import Caller
from themisto_hub.control.context import Control
from themisto_hub.control.serving.guard import recorded_refusals
from themisto_hub.settings import Deployment

__all__ = ["check_topic", "is_allowed"]


def is_allowed(settings: Deployment, group: str, topic: str) -> bool:
    """Whether the group's list has the topic by its name, or by a beginning that ends in `*`."""
    return any(
        topic.startswith(name[:-1]) if name.endswith("*") else topic == name
        for name in settings.feature_topics.get(group, ())
    )


def check_topic(control: Control, caller: Caller, group: str, view: FeatureView) -> None:
    """Raises Refused, on record, where the view's topic is not one of the group's."""
    if view.stream is None or is_allowed(control.settings, group, view.stream.name):
        return
    with recorded_refusals(control, caller, "feature_stream.attach", f"feature_view/{group}/{view.name}"):
        raise Refused(
            f"The group '{group}' may not read the topic '{view.stream.name}'.",
            "The platform team allows it: THEMISTO_FEATURE_TOPICS.",
        )
