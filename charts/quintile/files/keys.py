"""Make the secrets of the platform where they are missing; never change one that is there.

Runs before an installation and before every upgrade. Needs `create`, and `get` and `patch` on the
one Secret. Prints names, no values.
"""

import base64
import json
import os
import pathlib
import secrets
import ssl
import sys
import urllib.error
import urllib.request

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE, NAME = os.environ["NAMESPACE"], os.environ["SECRET"]
LABELS = json.loads(os.environ["LABELS"])


def call(method, path, body=None, kind="application/json"):
    """Ask the API server; return its answer."""
    server = (
        f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    )
    request = urllib.request.Request(
        server + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": kind,
        },
    )
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=20) as answer:
        return json.load(answer)


def pair():
    """Return a new key that signs trial tokens, and its public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, public(private)


def public(private):
    """Return the public half of a key."""
    key = serialization.load_pem_private_key(private, password=None)
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def wanted(known):
    """Yield every entry that is missing."""
    if "trial.pem" in known:
        yield "trial-public.pem", public(base64.b64decode(known["trial.pem"]))
    else:
        private, opened = pair()
        yield "trial.pem", private
        yield "trial-public.pem", opened
    yield "session.key", secrets.token_bytes(32)
    yield "urls.key", secrets.token_bytes(32)
    yield "service-token", secrets.token_urlsafe(32).encode()
    yield "postgresql-password", secrets.token_hex(24).encode()
    yield "minio-access-key", b"quintile"
    yield "minio-secret-key", secrets.token_hex(24).encode()


def main():
    """Read the Secret, add what is missing."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    try:
        known = call("GET", f"{path}/{NAME}").get("data", {})
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        known = None
    missing = {
        name: base64.b64encode(value).decode()
        for name, value in wanted(known or {})
        if name not in (known or {})
    }
    if known is None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "labels": LABELS},
            "type": "Opaque",
            "data": missing,
        }
        call("POST", path, body)
    elif missing:
        call("PATCH", f"{path}/{NAME}", {"data": missing}, "application/merge-patch+json")
    sys.stdout.write(f"made {', '.join(missing)}\n" if missing else "nothing is missing\n")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as error:
        sys.exit(f"the API server answered {error.code}: {error.read().decode(errors='replace')}")
