"""Order: a deploy as it was asked for, read and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import ConfigDict, Field, ValidationError

from themisto.errors import Invalid, NotFound, did_you_mean
from themisto.serving.fallback import parse_default
from themisto.serving.gating import Asked, asked
from themisto.serving.models import Personal, ServingConfig, Tier
from themisto.serving.moving import rollout_request
from themisto.serving.names import is_endpoint_name
from themisto.serving.options import batch_config, slo_targets
from themisto.serving.parity import Tolerance
from themisto.serving.personal import personal_columns
from themisto.serving.rollout import RolloutRequest, Strategy
from themisto.types import Model

if TYPE_CHECKING:
    from themisto.client import ControlPlane

__all__ = ["Features", "Options", "Order", "take"]

_MAX_CELL = 200_000


class Options(Model):
    """All that may be said about a deploy, as people write it: the keywords of `themisto.deploy`.

    `%%deploy` says the same in words. What is written short (`max=64,delay=100us`) is read by `Order.of`.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    features: str | None = None
    """A feature service, `name` or `name@version`: callers may send entity keys alone."""
    profile: str | None = None
    """The compute that the model runs on; `%themisto profiles` shows those there are."""
    tier: Tier = "dev"
    """`prod` waits for another person's approval. An endpoint's tier never changes."""
    strategy: Strategy = "canary"
    """How traffic moves; the first release of an endpoint gets all."""
    weight_pct: int | None = None
    """Share of the traffic; default 5 for canary, 50 for ab."""
    steps: Sequence[int] | str | None = None
    """A canary's rising shares, `5,30,100`; it takes them by itself unless `manual`."""
    manual: bool = False
    """A person takes each step; a breach still goes back by itself."""
    dwell: str | int | None = None
    """How long each step lasts at the least: `10m`, `2h`, or seconds."""
    tolerate: Mapping[str, str] | Sequence[str] = ()
    """A canary goes back where it is worse than stable by more: `errors=1%`, `slow=5%`, `outputs=10%`."""
    slo: Mapping[str, str] | Sequence[str] = ()
    """Service levels, `p99=10ms` or `errors=0.1%`."""
    batch: ServingConfig | Mapping[str, Any] | str | None = None
    """How Triton runs the model: `max=64,delay=100us`, or a ServingConfig."""
    warmup: int | None = None
    """Requests before it gets traffic."""
    default: Mapping[str, Any] | str | None = None
    """What callers get, for each row, when nothing else answers: `{"prediction": 0.5}`."""
    rule: Any = None
    """A function of the same columns that answers before the default does."""
    fallback_after_ms: int = 1000
    """How long the release may take before the next in line is asked."""
    personal: Mapping[str, str] | str | None = None
    """Columns about a person and what the prediction log keeps of them: hash, encrypt or drop."""
    gates: str | Sequence[str] = ()
    """What must be reached on the hold-out before any traffic, such as `auc >= champion - 0.005`."""
    holdout: Any = None
    """Rows with their label: a DataFrame, a .parquet or .csv file, or a stored one by name, digest or `same`."""
    label: str | None = None
    """The column of the hold-out that holds the truth."""
    by: str | Sequence[str] = ()
    """Columns of the hold-out whose slices are judged too."""
    native: bool = False
    """Serve the model in its own library and pinned packages, not as ONNX."""
    new_version: bool = False
    """Open the endpoint's next version (`credit.v2`) beside what answers now, for a signature that its callers
    cannot follow."""
    tolerance: Tolerance = Tolerance()
    """By how much the export's answers may differ from the model's own."""
    dry_run: bool = False
    """Stop after the parity gate; nothing is logged or recorded."""
    cell: str = Field("", repr=False)
    """The source that is kept with the release."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Raises Invalid for an option that there is not, and for a value of another type."""
        for name in said.keys() - cls.model_fields.keys():
            there_are = f"There are: {', '.join(cls.model_fields)}."
            raise Invalid(f"A deploy has no option '{name}'.", did_you_mean(name, cls.model_fields, there_are))
        try:
            return cls(**said)
        except ValidationError as error:
            first = error.errors()[0]
            raise Invalid(f"{first['loc'][0]}: {first['msg']}.", "See %%deploy --help.") from None


class Features(Model):
    """The feature service whose values the gateway looks up."""

    ref: str
    """`name@version`"""
    columns: tuple[str, ...]
    keys: tuple[str, ...]


class Order(Model):
    """Where to deploy, `options`, and what those say that is read from what people write."""

    endpoint: str
    group: str
    options: Options
    features: Features | None = None
    serving: ServingConfig = ServingConfig()
    slo: Mapping[str, str] = {}
    rollout: RolloutRequest = RolloutRequest()
    default: Mapping[str, Any] | None = None
    personal: Mapping[str, Personal] = {}
    gates: Asked | None = None

    @classmethod
    def of(cls, endpoint: str, group: str, options: Options, features: Features | None = None) -> Self:
        """Raises Invalid, saying how the option is written."""
        if not is_endpoint_name(endpoint):
            raise Invalid(
                f"'{endpoint}' is no endpoint name.",
                "Use 1 to 48 lower-case letters, digits, - and _, a letter first: credit_risk, or credit_risk.v2.",
            )
        if len(options.cell) > _MAX_CELL:
            raise Invalid(
                f"The cell has {len(options.cell):,} characters.", f"Keep it under {_MAX_CELL:,}: load data from files."
            )
        return cls(
            endpoint=endpoint,
            group=group,
            options=options,
            features=features,
            serving=batch_config(options.batch, options.warmup),
            slo=slo_targets(options.slo),
            rollout=rollout_request(
                options.strategy,
                options.weight_pct,
                steps=options.steps,
                manual=options.manual,
                dwell=options.dwell,
                tolerate=options.tolerate,
            ),
            default=parse_default(options.default),
            personal=personal_columns(options.personal),
            gates=asked(options.gates, holdout=options.holdout is not None, label=options.label, by=options.by),
        )

    def given(self, *, rule: Any, holdout: Any) -> Order:
        """The same with the values that a line could only name: its cell may make them."""
        options = self.options.model_copy(update={"rule": rule, "holdout": holdout})
        return self.model_copy(update={"options": options})


def take(control: ControlPlane, endpoint: str, options: Options) -> Order:
    """The order, once the profile and the feature service it names are found. Raises Invalid, NotFound."""
    if options.profile is not None:
        _require_profile(control, options.profile)
    features = _features(control, options.features) if options.features else None
    return Order.of(endpoint, control.group, options, features)


def _require_profile(control: ControlPlane, name: str) -> None:
    profiles = cast("list[dict[str, Any]]", control.get("profiles"))
    fit = [p["name"] for p in profiles if "model" in p.get("uses", ["model"])]
    if name in fit:
        return
    raise NotFound(
        f"There is no profile '{name}' for models that you may use.",
        f"{did_you_mean(name, fit)} You may use: {', '.join(fit) or 'none'}.".lstrip(),
    )


def _features(control: ControlPlane, ref: str) -> Features:
    """Raises NotFound, naming the nearest."""
    from themisto.features.records import ServiceSpec

    try:
        spec = ServiceSpec.model_validate(control.get(f"features/services/{ref}", group=control.group))
    except NotFound as error:
        known = cast("list[dict[str, Any]]", control.get("features/services", group=control.group))
        names = [str(s["name"]) for s in known]
        hint = did_you_mean(ref.partition("@")[0], names, f"There are: {', '.join(names) or 'none yet'}.")
        raise NotFound(f"There is no feature service '{ref}'.", hint) from error
    return Features(
        ref=spec.ref,
        columns=tuple(c.name for c in spec.outputs),
        keys=spec.brought,
    )
