"""Pod manifests, whole: what a server of each profile asks of a cluster."""

import types
from pathlib import Path

import pytest
from jupyterhub import orm
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from tornado.web import HTTPError
from traitlets.config import Config

from themisto_hub.configure import configure
from themisto_hub.profiles import load_profiles
from themisto_hub.settings import Deployment, Keys
from themisto_hub.spawners.kubernetes import KubernetesSpawner

ROOT = Path(__file__).resolve().parents[3]
GIB = 2**30
PROFILES = {p.name: p for p in load_profiles(ROOT / "profiles")}


@pytest.fixture(autouse=True)
def kubeconfig(tmp_path, monkeypatch):
    file = tmp_path / "kubeconfig"
    file.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\n"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: x, user: {}}]\n"
    )
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))


def spawner(name: str = "", groups: tuple[str, ...] = ("data-science", "platform-admins")) -> KubernetesSpawner:
    c = Config()
    keys = Keys(**dict.fromkeys(Keys.model_fields, "ab" * 32))
    configure(
        c, Deployment(spawner="kubernetes", profiles_dir=ROOT / "profiles", public_url="https://hub.example.com"), keys
    )
    db = orm.new_session_factory("sqlite:///:memory:")()
    person = orm.User(name="scientist")
    server = orm.Spawner(name=name, user=person)
    db.add_all([person, server])
    db.commit()
    user = types.SimpleNamespace(
        name="scientist",
        escaped_name="scientist",
        id=person.id,
        url="/user/scientist/",
        groups=[orm.Group(name=g) for g in groups],
    )
    hub = types.SimpleNamespace(
        public_host="", api_url="http://hub:8081/hub/api", base_url="/hub/", url="http://hub:8081/hub/"
    )
    made = KubernetesSpawner(config=c, _mock=True, user=user, hub=hub, db=db, orm_spawner=server)
    made.api_token = "token"
    made.oauth_client_id = "client"
    made.oauth_access_scopes = made.oauth_client_allowed_scopes = []
    made._server = types.SimpleNamespace(base_url="/user/scientist/")
    made.namespace = "workbench"
    return made


async def manifest(name: str, profile: str) -> dict:
    made = spawner(name)
    await made.choose({"profile": profile})
    await made.load_user_options()
    pod = ApiClient().sanitize_for_serialization(await made.get_pod_manifest())
    pod["spec"]["containers"][0]["env"] = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    return pod


def resources(profile: str) -> dict:
    shape = PROFILES[profile]
    gpus = {"gpu-mig-1g": {"nvidia.com/mig-1g.10gb": "1"}, "gpu-full": {"nvidia.com/gpu": "1"}}.get(profile, {})
    memory = str(int(shape.memory_gib * GIB))
    return {
        "limits": {"cpu": shape.cpu, "memory": int(memory), **gpus},
        "requests": {"cpu": shape.cpu / 2, "memory": int(memory), **gpus},
    }


SECURITY = {
    "runAsUser": 1000,
    "runAsGroup": 100,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize("profile", [n for n, p in PROFILES.items() if "notebook" in p.uses])
async def test_the_pod_of_a_persons_server(profile):
    pod = await manifest("", profile)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    env = container.pop("env")
    assert spec == {
        "automountServiceAccountToken": False,
        "securityContext": {"fsGroup": 100},
        "restartPolicy": "OnFailure",
        "imagePullSecrets": [],
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home-scientist"}}],
        "containers": [
            {
                "name": "notebook",
                "image": PROFILES[profile].images[0],
                "args": [
                    "jupyterhub-singleuser",
                    "--ServerApp.kernel_manager_class=themisto_hub.culling.BusyKernelManager",
                    "--LabApp.news_url=None",
                    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                ],
                "ports": [{"name": "notebook-port", "containerPort": 8888}],
                "lifecycle": {},
                "securityContext": SECURITY,
                "resources": resources(profile),
                "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}],
            }
        ],
    }
    assert env["THEMISTO_URL"] == "https://hub.example.com/services/themisto"
    assert env["THEMISTO_GROUP"] in ("data-science", "platform-admins")
    assert not [name for name in env if name.startswith("THEMISTO_KEY")]
    labels = pod["metadata"]["labels"]
    assert labels["themisto.dev/profile"] == profile
    assert labels["themisto.dev/group"] == env["THEMISTO_GROUP"]


@pytest.mark.parametrize("profile", [n for n, p in PROFILES.items() if "job" in p.uses])
async def test_the_pod_of_a_job_mounts_no_home_and_runs_the_runner(profile):
    pod = await manifest("job-1", profile)
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert spec.get("volumes", []) == []
    assert container.get("volumeMounts", []) == []
    assert container["args"] == ["python", "-m", "themisto.schedules.job"]
    assert container["securityContext"] == SECURITY
    assert container["resources"] == resources(profile)
    assert spec["automountServiceAccountToken"] is False


async def test_a_second_start_carries_nothing_of_the_first_profile():
    made = spawner()
    for profile in ("gpu-mig-1g", "cpu-small"):
        await made.choose({"profile": profile})
        await made.load_user_options()
    assert made.extra_resource_limits == {}
    assert made.mem_limit == 4 * GIB


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "job-small"},
        {"profile": "none"},
        {"profile": "cpu-small", "image": "evil\nx"},
        {"profile": "cpu-small", "group": "model-risk"},
        {"profile": "cpu-small", "image--unlisted-choice": "evil"},
    ],
)
async def test_forged_options_are_refused(options):
    with pytest.raises(HTTPError) as raised:
        await spawner().choose(options)
    assert raised.value.status_code in (400, 403)


async def test_the_form_is_kubespawners_own_and_escapes_nothing_raw():
    made = spawner()
    form = await made.get_options_form()
    assert "kubespawner-profiles-list" in form
    assert 'value="cpu-small"' in form
    assert 'value="job-small"' not in form
    assert isinstance(made, KubeSpawner)
