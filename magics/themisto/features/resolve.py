"""A feature service resolved against the views it names: which columns, from where, under which name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from themisto.errors import Invalid, NotFound, did_you_mean
from themisto.features.dtypes import fits
from themisto.features.models import Column, FeatureService, FeatureView
from themisto.features.records import ServiceColumn, ServiceSpec

__all__ = ["as_said", "changed", "resolve"]


def resolve(
    service: FeatureService, view_of: Callable[[str], FeatureView], *, version: int, group: str = ""
) -> ServiceSpec:
    """The spec of `service` on the newest versions of its views.

    A feature keeps its own name; where two views have one of the same name, both become `view__feature`.
    On-demand features are not looked at: see `on_demand.check_on_demand`, which runs them.
    Raises NotFound for an unknown view or feature, Invalid where views disagree on a key's type.
    """
    picked = _picked(service, view_of)
    counts = Counter(feature.name for _, feature in picked)
    views = {view.name: view for view, _ in picked}
    keys = _keys(service.name, views)
    columns = tuple(
        ServiceColumn(
            name=f.name if counts[f.name] == 1 else f"{view.name}__{f.name}",
            view=view.name,
            view_version=view.version or 1,
            feature=f.name,
            dtype=f.dtype,
        )
        for view, f in picked
    )
    clash = sorted({c.name for c in columns} & set(keys))
    if clash:
        raise Invalid(
            f"FeatureService {service.name}: {', '.join(clash)} is a key and a feature.", "Rename the feature."
        )
    _check_defaults(service, columns)
    return ServiceSpec(
        name=service.name,
        version=version,
        group=group,
        keys=tuple(keys.values()),
        columns=columns,
        view_keys={name: tuple(k.name for k in view.keys) for name, view in views.items()},
        ttl_s={name: view.ttl_s for name, view in views.items()},
        windows={name: view.windows for name, view in views.items() if view.windows is not None},
        on_missing=service.on_missing,
        defaults=service.defaults,
        max_age_s=service.max_age_s,
        on_demand=service.on_demand,
    )


_SAID: dict[str, Any] = {
    "version": True,
    "online": True,
    "columns": {"__all__": {"personal"}},
    "on_demand": {"__all__": {"description"}},
}


def changed(old: ServiceSpec, new: ServiceSpec) -> bool:
    """Whether a model would see a difference."""
    return old.model_dump(exclude=_SAID) != new.model_dump(exclude=_SAID)


def as_said(spec: ServiceSpec, view_of: Callable[[str, int], FeatureView]) -> ServiceSpec:
    """`spec` with what the definitions of its views say today: how they are kept online, what is personal."""
    views = {name: view_of(name, version) for name, version in spec.views.items()}
    personal = {(name, f.name) for name, view in views.items() for f in view.features if f.personal}
    columns = tuple(c.model_copy(update={"personal": (c.view, c.feature) in personal}) for c in spec.columns)
    kept = {name: view.online for name, view in views.items()}
    return spec.model_copy(update={"columns": columns, "online": kept})


def _picked(service: FeatureService, view_of: Callable[[str], FeatureView]) -> list[tuple[FeatureView, Column]]:
    picked: dict[tuple[str, str], tuple[FeatureView, Column]] = {}
    for ref in service.features:
        name, _, feature = ref.partition(":")
        view = view_of(name)
        found = [f for f in view.features if not feature or f.name == feature]
        if not found:
            has = ", ".join(f.name for f in view.features)
            hint = did_you_mean(feature, [f.name for f in view.features], f"It has {has}.")
            raise NotFound(f"The view '{name}' has no feature '{feature}'.", hint)
        picked |= {(name, f.name): (view, f) for f in found}
    return list(picked.values())


def _keys(service: str, views: Mapping[str, FeatureView]) -> dict[str, Column]:
    keys: dict[str, Column] = {}
    for view in views.values():
        for key in view.keys:
            if keys.setdefault(key.name, key).dtype != key.dtype:
                raise Invalid(
                    f"FeatureService {service}: the key '{key.name}' is {keys[key.name].dtype} in one view "
                    f"and {key.dtype} in '{view.name}'.",
                    "Give the key the same type in both sources.",
                )
    return keys


def _check_defaults(service: FeatureService, columns: tuple[ServiceColumn, ...]) -> None:
    by_name = {c.name: c for c in columns}
    unknown = sorted(set(service.defaults) - set(by_name))
    if unknown:
        raise Invalid(f"FeatureService {service.name}: defaults for unknown {', '.join(unknown)}.", "Use its names.")
    for name, value in service.defaults.items():
        if not fits(by_name[name].dtype, value):
            raise Invalid(
                f"FeatureService {service.name}: the default of '{name}' is no {by_name[name].dtype}.",
                "Change it.",
            )
    without = [c.name for c in columns if c.name not in service.defaults]
    if service.on_missing == "default" and without:
        raise Invalid(
            f"FeatureService {service.name}: on_missing='default', and {', '.join(without[:5])} has none.",
            "Give defaults={…} for every feature.",
        )
