"""Make the schemas in this folder again: `python trim.py KUBERNETES ISTIO KSERVE`, three module folders of Go.

    k8s.io/kubernetes, istio.io/api and github.com/kserve/kserve, as `go mod download -json MODULE@VERSION`
    leaves them.

What the goldens use is kept, word for word but for descriptions; every other field is dropped and
`additionalProperties: false` put in its place. So what passes here passes the whole schema; a field
used for the first time fails here until the schemas are made again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"
OPENAPI = "api/openapi-spec/v3/apis__{}_openapi.json"
CRDS = {
    "istio": "kubernetes/customresourcedefinitions.gen.yaml",
    "kserve": "config/crd/full/serving.kserve.io_{}.yaml",
}
DROPPED = {"description", "example", "default"}


def used() -> dict[tuple[str, str], list[Any]]:
    """All objects of the goldens, by version and kind."""
    found: dict[tuple[str, str], list[Any]] = {}
    for file in sorted(GOLDEN.glob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text()):
            found.setdefault((one["apiVersion"], one["kind"]), []).append(one)
    return found


def trimmed(schema: dict[str, Any], values: list[Any], components: dict[str, Any]) -> dict[str, Any]:
    """The part of the schema that judges these values."""
    while "$ref" in schema or (len(schema.get("allOf", ())) == 1 and "properties" not in schema):
        schema = schema["allOf"][0] if "allOf" in schema else components[schema["$ref"].rpartition("/")[2]]
    kept = {key: value for key, value in schema.items() if not key.startswith("x-") and key not in DROPPED}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    maps = [value for value in values if isinstance(value, dict)]
    lists = [one for value in values if isinstance(value, list) for one in value]
    if "properties" in schema:
        names = sorted({name for value in maps for name in value if name in schema["properties"]})
        kept["properties"] = {
            name: trimmed(schema["properties"][name], [v[name] for v in maps if name in v], components)
            for name in names
        }
        kept["additionalProperties"] = False
        if "required" in kept:
            kept["required"] = sorted(kept["required"])
    elif isinstance(schema.get("additionalProperties"), dict):
        inside = [one for value in maps for one in value.values()]
        kept["additionalProperties"] = trimmed(schema["additionalProperties"], inside, components)
    if "items" in schema:
        kept["items"] = trimmed(schema["items"], lists, components)
    for some in ("oneOf", "anyOf", "allOf"):
        if some in kept and any(set(one) - {"required", "not", "anyOf", "type"} for one in kept[some]):
            kept[some] = [trimmed(one, values, components) for one in kept[some]]
    return kept


def kubernetes(folder: Path, version: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    name = "api__v1_openapi.json" if version == "v1" else OPENAPI.format(version.replace("/", "__")).rpartition("/")[2]
    components = json.loads((folder / "api/openapi-spec/v3" / name).read_text())["components"]["schemas"]
    group, _, number = version.rpartition("/")
    for schema in components.values():
        for which in schema.get("x-kubernetes-group-version-kind", ()):
            if (which["group"], which["version"], which["kind"]) == (group, number, kind):
                return schema, components
    raise SystemExit(f"no {version} {kind}")


def custom(file: Path, version: str, kind: str) -> dict[str, Any]:
    metadata = {"type": "object", "properties": {n: {"type": "string"} for n in ("name", "namespace")}}
    metadata["properties"] |= {
        n: {"type": "object", "additionalProperties": {"type": "string"}} for n in ("labels", "annotations")
    }
    for one in yaml.load_all(file.read_text(), yaml.CSafeLoader):
        if one and one["spec"]["names"]["kind"] == kind:
            for served in one["spec"]["versions"]:
                if f"{one['spec']['group']}/{served['name']}" == version:
                    schema = served["schema"]["openAPIV3Schema"]
                    head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata}
                    return {**schema, "properties": {**schema["properties"], **head}}
    raise SystemExit(f"no {version} {kind}")


def main() -> None:
    kubernetes_folder, istio_folder, kserve_folder = map(Path, sys.argv[1:])
    for (version, kind), values in used().items():
        components: dict[str, Any] = {}
        if "istio.io" in version:
            schema = custom(istio_folder / CRDS["istio"], version, kind)
        elif "kserve.io" in version:
            schema = custom(kserve_folder / CRDS["kserve"].format(kind.lower() + "s"), version, kind)
        else:
            schema, components = kubernetes(kubernetes_folder, version, kind)
        text = json.dumps(trimmed(schema, values, components), indent=1, sort_keys=True)
        (HERE / f"{version.replace('/', '_')}_{kind}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
