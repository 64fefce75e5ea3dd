"""Trial tokens: who an agent is, signed with Ed25519 and checked without asking anybody.

The reconciler's side holds the private key and signs; the services hold the public key and
verify. Ed25519 is deterministic and the payload is canonical JSON, so equal claims give equal
bytes: a plan that is made twice carries the same token. Form: ``base64url(payload).base64url(
signature)`` without padding; payload ``{"attempt","exp","ns","trial","uid"}``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import pathlib
from dataclasses import dataclass

from cryptography import exceptions as crypto_exceptions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from quintile.core import errors


@dataclass(frozen=True)
class TrialClaims:
    """What a trial token says. ``expires_s`` is whole seconds since the epoch."""

    uid: str
    attempt: int
    namespace: str
    trial: str
    expires_s: int


class TrialTokenSigner:
    """Signs trial tokens; held by the reconciler's side alone."""

    def __init__(self, private_pem: bytes) -> None:
        key = serialization.load_pem_private_key(private_pem, password=None)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise errors.InvalidSpec(
                "The key that signs trial tokens is not an Ed25519 key.",
                hint="Delete the key file; a new one is made at the next start.",
            )
        self._key = key

    def sign(self, claims: TrialClaims) -> str:
        """Return the token; equal claims give equal text."""
        payload = _payload(claims)
        return f"{_encode(payload)}.{_encode(self._key.sign(payload))}"

    def public_pem(self) -> bytes:
        """Return the key that ``TrialTokenVerifier`` needs."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


class TrialTokenVerifier:
    """Checks trial tokens; cannot make one."""

    def __init__(self, public_pem: bytes) -> None:
        key = serialization.load_pem_public_key(public_pem)
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise errors.InvalidSpec("The key that verifies trial tokens is not an Ed25519 key.")
        self._key = key

    def verify(self, token: str, *, now_s: float) -> TrialClaims:
        """Return the claims of a token that is genuine and not expired.

        Raises:
            Unauthorized: It is neither.
        """
        first, _, second = token.partition(".")
        try:
            payload = _decode(first)
            self._key.verify(_decode(second), payload)
            claims = _claims(payload)
        except (crypto_exceptions.InvalidSignature, binascii.Error, ValueError, KeyError) as error:
            raise errors.Unauthorized(
                "The trial token is not genuine.", hint="Only agents of a trial hold one."
            ) from error
        if claims.expires_s <= now_s:
            raise errors.Unauthorized(f"The token of trial {claims.trial} has expired.")
        return claims


def new_private_pem() -> bytes:
    """Return a fresh private key as PEM (PKCS 8, not encrypted)."""
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def ensure_private_pem(path: pathlib.Path) -> bytes:
    """Return the private key at ``path``; make it (mode 0600) when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        pem = new_private_pem()
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        return pem


def _payload(claims: TrialClaims) -> bytes:
    named = {
        "attempt": claims.attempt,
        "exp": claims.expires_s,
        "ns": claims.namespace,
        "trial": claims.trial,
        "uid": claims.uid,
    }
    return json.dumps(named, separators=(",", ":"), sort_keys=True).encode()


def _claims(payload: bytes) -> TrialClaims:
    named = json.loads(payload)
    return TrialClaims(
        uid=str(named["uid"]),
        attempt=int(named["attempt"]),
        namespace=str(named["ns"]),
        trial=str(named["trial"]),
        expires_s=int(named["exp"]),
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
