"""The public names of `themisto`: adding one is a decision, losing one is a break."""

import importlib
import pkgutil

import themisto


def test_public_names_are_these():
    assert themisto.__all__ == [
        "Aggregate",
        "Entity",
        "Expect",
        "Feature",
        "FeatureService",
        "FeatureView",
        "OnDemand",
        "Online",
        "Topic",
        "deploy",
        "endpoint",
        "features",
        "load_ipython_extension",
        "pipeline",
        "schedules",
        "track",
    ]


def test_every_public_name_can_be_had(monkeypatch):
    monkeypatch.delenv("THEMISTO_URL", raising=False)
    for name in themisto.__all__:
        if name != "schedules":
            assert getattr(themisto, name) is not None


def test_no_module_takes_a_public_name_of_its_package():
    """Importing a module binds its name in its package, so a function of that name is gone from then on."""
    packages = [f"themisto.{m.name}" for m in pkgutil.iter_modules(themisto.__path__) if m.ispkg]
    for package in map(importlib.import_module, packages):
        taken = {module.name for module in pkgutil.iter_modules(package.__path__)} & set(package.__all__)
        for name in taken:
            assert not callable(getattr(package, name)), f"{package.__name__}.{name}"
