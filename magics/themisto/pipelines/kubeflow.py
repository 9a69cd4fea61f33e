"""Submitting a compiled pipeline to Kubeflow Pipelines, by the API its own client speaks.

The address is a setting: `kfp+https://host[/path][?namespace=…&experiment=…]`. Requests are built from
kfp-server-api's models, each with a timeout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from themisto.errors import Failed, Invalid, Refused, Unavailable
from themisto.pipelines.models import Scalar
from themisto.types import Model

__all__ = ["Kubeflow", "SubmittedRun"]

_TIMEOUT_S = (5, 30)  # to connect, to answer


class SubmittedRun(Model):
    """A run on the cluster."""

    id: str
    name: str
    url: str


class Kubeflow:
    """One Kubeflow Pipelines server. Raises Invalid for an address of another kind."""

    def __init__(self, address: str, token: str | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("kfp+https", "kfp+http") or not parts.netloc:
            raise Invalid(f"'{address}' is not a Kubeflow address.", "Write kfp+https://host[/path][?namespace=…].")
        query = parse_qs(parts.query)
        self._namespace = query.get("namespace", [None])[0]
        self._experiment = query.get("experiment", ["Default"])[0]
        self.host = f"{parts.scheme.removeprefix('kfp+')}://{parts.netloc}{parts.path.rstrip('/')}"
        self._token = token

    def submit(self, file: Path, name: str, arguments: Mapping[str, Scalar]) -> SubmittedRun:
        """Start a run of the pipeline in `file`. Raises Unavailable, Refused, Failed."""
        import kfp_server_api as api
        from ruamel.yaml import YAML

        specification = YAML(typ="safe").load(file.read_text())
        run = api.V2beta1Run(
            display_name=name,
            pipeline_spec=specification,
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
        with self._client() as client:
            run.experiment_id = self._experiment_id(client)
            answer = api.RunServiceApi(client).run_service_create_run(run=run, _request_timeout=_TIMEOUT_S)
        return SubmittedRun(id=answer.run_id, name=name, url=f"{self.host}/#/runs/details/{answer.run_id}")

    def _experiment_id(self, client: Any) -> str:
        """The experiment's id; made where it is missing."""
        import json

        import kfp_server_api as api

        experiments = api.ExperimentServiceApi(client)
        match = {"operation": "EQUALS", "key": "display_name", "stringValue": self._experiment}
        found = experiments.experiment_service_list_experiments(
            filter=json.dumps({"predicates": [match]}), namespace=self._namespace or "", _request_timeout=_TIMEOUT_S
        )
        if found.experiments:
            return str(found.experiments[0].experiment_id)
        made = experiments.experiment_service_create_experiment(
            experiment=api.V2beta1Experiment(display_name=self._experiment, namespace=self._namespace),
            _request_timeout=_TIMEOUT_S,
        )
        return str(made.experiment_id)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """kfp's API client; its exceptions and urllib3's become ours."""
        import kfp_server_api as api
        import urllib3

        configuration = api.Configuration(host=self.host)
        configuration.retries = False
        if self._token:
            configuration.api_key["authorization"] = self._token
            configuration.api_key_prefix["authorization"] = "Bearer"
        try:
            with api.ApiClient(configuration) as client:
                yield client
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"Kubeflow at {self.host} cannot be reached.", "Check THEMISTO_PIPELINES.") from error
        except api.ApiException as error:
            kind = Refused if error.status in (401, 403) else Unavailable if error.status in (502, 503) else Failed
            raise kind(f"Kubeflow says: {error.status} {error.reason}.", "Nothing was started.") from error
