"""Trial tokens: who an agent is, signed with Ed25519 and checked without asking anybody.

The reconciler's side holds the private key and signs; the services hold the public key and
verify. Ed25519 is deterministic and the payload is canonical JSON, so equal claims give equal
bytes: a plan that is made twice carries the same token. Form: ``base64url(payload).base64url(
signature)`` without padding; payload ``{"attempt","exp","ns","trial","uid"}``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import pathlib
import re
from dataclasses import dataclass

from cryptography import exceptions as crypto_exceptions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from quintile.core import errors

_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


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
    """Checks trial tokens; cannot make one.

    ``public_pem`` holds one public key, or two while one takes over from the other.
    """

    def __init__(self, public_pem: bytes) -> None:
        self._keys = tuple(_public_key(pem) for pem in _BLOCK.findall(public_pem))
        if not self._keys:
            raise errors.InvalidSpec(
                "The key that verifies trial tokens holds no public key in PEM.",
                hint="Write the public key that belongs to trial.pem.",
            )

    def verify(self, token: str, *, now_s: float) -> TrialClaims:
        """Return the claims of a token that is genuine and not expired.

        Raises:
            Unauthorized: It is neither.
        """
        first, _, second = token.partition(".")
        try:
            payload = _decode(first)
            self._check(_decode(second), payload)
            claims = _claims(payload)
        except (crypto_exceptions.InvalidSignature, binascii.Error, ValueError, KeyError) as error:
            raise errors.Unauthorized(
                "The trial token is not genuine.", hint="Only agents of a trial hold one."
            ) from error
        if claims.expires_s <= now_s:
            raise errors.Unauthorized(f"The token of trial {claims.trial} has expired.")
        return claims

    def _check(self, signature: bytes, payload: bytes) -> None:
        for key in self._keys[:-1]:
            with contextlib.suppress(crypto_exceptions.InvalidSignature):
                key.verify(signature, payload)
                return
        self._keys[-1].verify(signature, payload)


def _public_key(pem: bytes) -> ed25519.Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise errors.InvalidSpec("The key that verifies trial tokens cannot be read.") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise errors.InvalidSpec("The key that verifies trial tokens is not an Ed25519 key.")
    return key


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
