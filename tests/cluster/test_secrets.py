"""What a user may not read stays closed: by script, by REST, by volumes, over the network."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from quintile.adapters import client_kube, secrets_kube
from quintile.core import errors, meta
from quintile.testing import clusters, waiting

pytestmark = pytest.mark.timeout(300)
VALUE = "hunter2"
ALLOWED = {"quintile.dev/use": "workers"}
READS_THEM = f"""
import os, pathlib

assert os.environ["API_KEY"] == {VALUE!r}, "no variable"
file = pathlib.Path("/secrets/cloud/API_KEY")
assert file.read_text() == {VALUE!r}, "no file"
try:
    file.write_text("mine")
except OSError:
    pass
else:
    raise SystemExit("a Secret can be written")
"""
LOOKS_EVERYWHERE = f"""
import os, pathlib, ssl, urllib.request

account = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
assert not account.exists(), "a token is mounted"
assert {VALUE!r} not in "".join(os.environ.values()), "a variable has it"
host = os.environ["KUBERNETES_SERVICE_HOST"]
url = f"https://{{host}}/api/v1/namespaces/" + os.environ["PROJECT"] + "/secrets/closed"
context = ssl._create_unverified_context()
for address in (url, "http://169.254.169.254/"):
    try:
        said = urllib.request.urlopen(address, timeout=3, context=context).read().decode()
    except OSError as error:
        print(address, "refuses:", error)
    else:
        raise SystemExit(f"{{address}} answers: {{said[:200]}}")
"""


def spec(bundle: str, **more: Any) -> meta.Document:
    return {
        "estimator": {"script": {"bundle": bundle, "entry": "train.py"}},
        "run": {"resources": {"memory": "512Mi"}},
        "failure": {"maxRestarts": 0, "maxInPlaceRestarts": 0},
        **more,
    }


def secrets_path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" + (f"/{name}" if name else "")


def put(
    kube: client_kube.KubeClient, namespace: str, name: str, labels: dict[str, str] | None = None
) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels or {}},
        "data": {"API_KEY": base64.b64encode(VALUE.encode()).decode()},
    }
    kube.create(secrets_path(namespace), document)


def told(platform: Any, name: str) -> meta.Document:
    """The status of an experiment itself."""
    found: meta.Document = platform.kube.get(platform.path("experiments", name)).get("status") or {}
    return found


def until_refused(platform: Any, name: str, reason: str) -> str:
    """Wait until an experiment is held back for this reason; return its message."""
    platform.until(lambda: told(platform, name).get("reason") == reason)
    status = told(platform, name)
    accepted = next(entry for entry in status["conditions"] if entry["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", reason)
    assert platform.trial(name) == {}
    return str(status["message"])


def test_a_secret_that_is_missing_then_closed_then_allowed(platform: Any) -> None:
    bundle = platform.bundle(READS_THEM)
    put(platform.kube, platform.namespace, "first", ALLOWED)
    refs = [{"name": "first"}, {"name": "cloud", "mountPath": "/secrets/cloud"}]
    platform.submit("patient", spec(bundle, secretRefs=refs))
    message = until_refused(platform, "patient", "SecretNotFound")
    assert f"no Secret {platform.namespace}/cloud" in message and "Hint: Create it" in message
    put(platform.kube, platform.namespace, "cloud")
    message = until_refused(platform, "patient", "SecretNotAllowed")
    assert "lacks the label quintile.dev/use=workers" in message and "kubectl" in message
    label = {"metadata": {"labels": ALLOWED}}
    platform.kube.patch(secrets_path(platform.namespace, "cloud"), label)
    platform.until_phase("patient", "Succeeded")
    platform.remove("patient")


def test_a_script_finds_no_secret_and_no_way_to_one(platform: Any) -> None:
    put(platform.kube, platform.namespace, "closed")
    looks = spec(platform.bundle(LOOKS_EVERYWHERE))
    looks["estimator"]["env"] = [
        {"name": "PROJECT", "value": platform.namespace},
        {"name": "TRY", "value": "$(QUINTILE_TOKEN)"},
    ]
    platform.submit("curious", looks)
    platform.until_phase("curious", "Succeeded")
    platform.remove("curious")


def test_whoever_may_not_get_secrets_gets_none_by_an_experiment(platform: Any) -> None:
    kube, namespace = platform.kube, platform.namespace
    rule = {
        "apiGroups": ["quintile.dev"],
        "resources": ["experiments"],
        "verbs": ["get", "list", "create", "delete"],
    }
    user = clusters.account(kube, namespace, "user", [rule])
    put(kube, namespace, "payroll")
    waiting.until(lambda: user.get(platform.path("experiments")) is not None)
    with pytest.raises(errors.Forbidden):
        user.get(secrets_path(namespace, "payroll"))
    bundle = platform.bundle(READS_THEM)
    by_kubectl = {
        "apiVersion": meta.API_VERSION,
        "kind": "Experiment",
        "metadata": {"name": "greedy"},
        "spec": spec(bundle, secretRefs=[{"name": "payroll"}]),
    }
    user.create(platform.path("experiments"), by_kubectl)
    by_rest = {"name": "greedy-too", "spec": by_kubectl["spec"]}
    assert rest(platform, by_rest).status_code == 201
    for name in ("greedy", "greedy-too"):
        until_refused(platform, name, "SecretNotAllowed")
        platform.kube.delete(platform.path("experiments", name))


@pytest.mark.parametrize(
    "volume",
    [
        {"name": "a", "secret": {"secretName": "payroll"}},
        {"name": "a", "projected": {"sources": [{"secret": {"name": "payroll"}}]}},
        {"name": "a", "hostPath": {"path": "/var/lib/kubelet"}},
        {"name": "a", "csi": {"driver": "secrets-store.csi.k8s.io"}},
    ],
    ids=lambda volume: list(volume)[1],
)
def test_no_volume_holds_a_secret(platform: Any, volume: meta.Document) -> None:
    mount = {"name": "a", "mountPath": "/data/a"}
    wanted = spec("a" * 64, podOverrides={"volumes": [volume], "volumeMounts": [mount]})
    # Without strict validation an API server drops what it does not know: nothing is left then.
    with pytest.raises(errors.InvalidSpec, match="exactly one of emptyDir"):
        platform.submit("volume", wanted)
    assert rest(platform, {"name": "volume", "spec": wanted}).status_code == 422


def rest(platform: Any, body: meta.Document) -> httpx.Response:
    return httpx.post(
        f"{platform.url}/api/v1/projects/{platform.namespace}/experiments",
        json=body,
        headers={"Authorization": f"Bearer {platform.token}"},
        trust_env=False,
        timeout=30,
    )


LISTENS = """
import socket, time
from quintile_trainer import context
import os

run = context.current()
if os.environ["RANK"] == "0":
    server = socket.create_server(("0.0.0.0", 23456))
    server.accept()  # the other rank: whoever is of this trial gets through
    for step in range(4000):
        time.sleep(0.05)
        run.progress(step + 1, 4000)
else:
    deadline = time.monotonic() + 60
    while True:
        try:
            peer = socket.create_connection((os.environ["MASTER_ADDR"], 23456), timeout=3)
            break
        except OSError:
            assert time.monotonic() < deadline, "no way to rank 0"
            time.sleep(0.2)
    time.sleep(200)
"""
KNOCKS = """
import os, socket

for port in (23456, 1):
    try:
        socket.create_connection((os.environ["VICTIM"], port), timeout=5)
    except ConnectionRefusedError:
        raise SystemExit(f"port {port}: nobody listens, but the way is open")
    except OSError as error:
        print("cut off:", error)
    else:
        raise SystemExit(f"port {port}: reached a rank of another trial")
"""


def test_pods_of_another_trial_reach_no_port_of_a_rank(platform: Any) -> None:
    shape = {"mode": "ddp", "workers": {"replicas": 2}, "resources": {"memory": "512Mi"}}
    platform.submit("private", spec(platform.bundle(LISTENS), run=shape))
    platform.until_told("private", lambda told: told.get("progress", {}).get("step", 0) > 0)
    first = min(platform.pods("private"), key=lambda pod: str(pod["metadata"]["name"]))
    stranger = spec(platform.bundle(KNOCKS))
    stranger["estimator"]["env"] = [{"name": "VICTIM", "value": first["status"]["podIP"]}]
    platform.submit("nosy", stranger)
    platform.until_phase("nosy", "Succeeded")
    assert platform.status("private")["phase"] == "Running"
    for name in ("private", "nosy"):
        platform.remove(name)


@pytest.fixture
def project() -> Iterator[tuple[client_kube.KubeClient, str]]:
    kube = clusters.client()
    with clusters.namespaces(kube, "secrets") as (namespace,):
        yield kube, namespace


def test_the_operator_sees_listed_secrets_alone_and_only_their_labels(
    project: tuple[client_kube.KubeClient, str],
) -> None:
    kube, namespace = project
    listed = ["open", "unlabelled", "missing"]
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    operator = clusters.account(kube, namespace, "operator", [{**rule, "resourceNames": listed}])
    for name, labels in (("open", ALLOWED), ("unlabelled", {}), ("unlisted", ALLOWED)):
        put(kube, namespace, name, labels)
    allowed = secrets_kube.WorkerSecrets(operator)
    waiting.until(lambda: is_allowed(allowed, namespace))
    for name, reason in (
        ("unlabelled", "SecretNotAllowed"),
        ("unlisted", "SecretNotAllowed"),
        ("missing", "SecretNotFound"),
        ("absent", "SecretNotAllowed"),  # whether it is there is not for users to know
    ):
        with pytest.raises(errors.Blocked, match=name) as caught:
            allowed.check(namespace, [name])
        assert caught.value.reason == reason
    answer = operator._call(
        "GET", secrets_path(namespace, "open"), {}, headers={"Accept": client_kube.METADATA}
    )
    assert answer["kind"] == "PartialObjectMetadata" and "data" not in answer


def is_allowed(allowed: secrets_kube.WorkerSecrets, namespace: str) -> bool:
    """Whether rights have arrived."""
    try:
        allowed.check(namespace, ["open"])
    except errors.Blocked:
        return False
    return True
