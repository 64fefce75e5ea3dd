"""The Kubernetes API as raw JSON: the one place that speaks HTTP with an API server.

Typed clients cost several CPU-milliseconds an object and know nothing of our kinds; here a
document goes out as it is and comes back as it is. The ``kubernetes`` library contributes what it
does well: finding credentials (a kubeconfig, or the mounted service account with its rotating
token), TLS and connections that are kept. All methods block and are safe from several threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import kubernetes.client
import kubernetes.config
import urllib3
from kubernetes.config import config_exception

from quintile.core import errors, meta

TIMEOUT_S: Final = 30.0
CONNECT_S: Final = 5.0
WATCH_SLACK_S: Final = 15.0
"""How much longer than its own limit a watch may be silent before its connection counts as dead."""

_APPLY: Final = "application/apply-patch+yaml"
_PATCHES: Final = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PLAIN: Final[Mapping[str, str]] = {}
_POOL: Final = 16
_IN_CLUSTER: Final = "KUBERNETES_SERVICE_HOST"


Listener = Callable[[str, str, int, float], None]
"""Told of a request: method, path, status (0: no answer) and seconds to the answer's head."""


class Gone(errors.Conflict):
    """The version from which a watch should continue is too old; list again."""


class Rejected(errors.Forbidden):
    """RBAC, admission or Pod Security refused a request."""


class Owned(errors.Conflict):
    """Another field manager owns a field of a server-side apply; the message names both."""


class Stream:
    """A watch under way: iterate in one thread; ``close`` from any ends the iteration."""

    def __init__(self, response: urllib3.BaseHTTPResponse, path: str) -> None:
        self._response = response
        self._path = path
        self._closed = False

    def __iter__(self) -> Iterator[meta.Document]:
        """Yield ``{"type", "object"}`` until the server, the limit or ``close`` ends it.

        Raises:
            Gone: The version is too old.
        """
        try:
            yield from _lines(self._response, self._path)
        except ValueError:
            # What a reader gets of a TLS connection that is broken off under it is still encrypted.
            if not self._closed:
                raise
        finally:
            self._response.close()

    def close(self) -> None:
        """Break the connection off. Idempotent."""
        self._closed = True
        with contextlib.suppress(ValueError, OSError, AttributeError, urllib3.exceptions.HTTPError):
            # A reader that waits in another thread wakes; closing alone would leave it there.
            self._response.shutdown()


class KubeClient:
    """Requests to one API server.

    Args:
        configuration: ``host`` and credentials.
        agent: What the audit log of the cluster calls us, as ``quintile-operator``.
    """

    def __init__(self, configuration: kubernetes.client.Configuration, *, agent: str) -> None:
        self._agent = agent
        self._configuration = configuration
        configuration.connection_pool_maxsize = _POOL
        configuration.retries = False
        self._http = kubernetes.client.ApiClient(configuration).rest_client.pool_manager
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Tell ``listener`` of every request from now on, for figures. It must not raise."""
        self._listeners.append(listener)

    def get(self, path: str, **query: object) -> meta.Document:
        """Return the document, or the list, at ``path`` (``/api/v1/namespaces/...``).

        Raises:
            NotFound: Nothing there.
            Unavailable: The API server is away, overloaded, or still starting.
            Gone: ``continue`` or ``resourceVersion`` is too old.
        """
        return self._call("GET", path, query)

    def metadata(self, path: str) -> meta.Document:
        """Return the metadata of the object at ``path`` alone; of a Secret not what it holds.

        Raises:
            NotFound: Nothing there.
            Rejected: It may not be read.
        """
        found = self._call("GET", path, {}, headers={"Accept": METADATA})["metadata"]
        return dict(found)

    def create(self, path: str, document: meta.Document, *, manager: str = "") -> meta.Document:
        """Create a document in the collection at ``path``; its fields are those of ``manager``.

        Raises:
            Conflict: One of that name exists.
            InvalidSpec: The API server refuses it; the message is its own.
        """
        return self._call("POST", path, {"fieldManager": manager or None}, document)

    def apply(
        self, path: str, document: meta.Document, *, manager: str, force: bool = False
    ) -> meta.Document:
        """Apply a document server-side; fields that ``manager`` no longer names go away.

        Raises:
            Conflict: Another manager owns a field; the message names both. Or the document
                carries a ``resourceVersion`` and the stored one differs.
            InvalidSpec: As ``create``.
        """
        query = {"fieldManager": manager, "force": "true" if force else None}
        return self._call("PATCH", path, query, document, headers={"Content-Type": _APPLY})

    def patch(
        self, path: str, body: object, *, form: str = "merge", manager: str = ""
    ) -> meta.Document:
        """Patch the document at ``path``; ``form`` is ``merge`` or ``json``.

        Raises:
            NotFound: Nothing there.
            Conflict: A ``test`` of a JSON patch failed, or the version differs.
        """
        query = {"fieldManager": manager or None}
        return self._call("PATCH", path, query, body, headers={"Content-Type": _PATCHES[form]})

    def replace(self, path: str, document: meta.Document) -> meta.Document:
        """Replace the document at ``path``; with a ``resourceVersion`` only if it still fits."""
        return self._call("PUT", path, {}, document)

    def delete(
        self, path: str, *, uid: str = "", grace_s: float | None = None, wait: bool = False
    ) -> None:
        """Delete the document at ``path`` and, in the background, what it owns. Idempotent.

        ``uid``: leave another document that lives under the name now alone. ``wait``: the owner
        stays until what it owns is gone (foreground).
        """
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if wait else "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_s is not None:
            body["gracePeriodSeconds"] = round(grace_s)
        try:
            self._call("DELETE", path, {}, body)
        except errors.NotFound:
            return
        except errors.Conflict:
            if not uid:
                raise

    def watch(
        self, path: str, *, version: str, timeout_s: float, **query: object
    ) -> Iterator[meta.Document]:
        """Yield ``{"type", "object"}`` as they come after ``version``; bookmarks too.

        Ends when the server closes the stream, which is normal, or after ``timeout_s``.

        Raises:
            Gone: ``version`` is too old.
        """
        yield from self.stream(path, version=version, timeout_s=timeout_s, **query)

    def stream(self, path: str, *, version: str, timeout_s: float, **query: object) -> Stream:
        """Return a watch that is open, so that another thread can close it; else as ``watch``."""
        asked = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, round(timeout_s)),
        }
        response = self._send("GET", path, asked, read_s=timeout_s + WATCH_SLACK_S)
        if response.status != 200:
            try:
                raise failure("GET", path, response.status, response.read())
            finally:
                response.close()
        return Stream(response, path)

    def text(self, path: str, *, read_s: float = TIMEOUT_S, **query: object) -> Iterator[bytes]:
        """Yield the body at ``path`` in pieces; for the logs of a container."""
        response = self._send("GET", path, query, read_s=read_s)
        try:
            if response.status != 200:
                raise failure("GET", path, response.status, response.read())
            yield from response.stream(65536)
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(f"The API server broke off {path}: {error}.") from error
        finally:
            response.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: object = None,
        *,
        headers: Mapping[str, str] = _PLAIN,
    ) -> meta.Document:
        response = self._send(method, path, query, body=body, headers=headers)
        try:
            data = response.read()
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(f"The API server broke off {method} {path}.") from error
        finally:
            response.release_conn()
        if response.status >= 300:
            raise failure(method, path, response.status, data)
        answer: meta.Document = json.loads(data)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        *,
        body: object = None,
        headers: Mapping[str, str] = _PLAIN,
        read_s: float = TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        given = {name: value for name, value in query.items() if value is not None}
        url = f"{self._configuration.host}{path}"
        if given:
            url = f"{url}?{urllib.parse.urlencode(given)}"
        told = {"Accept": "application/json", "User-Agent": self._agent}
        # Asked for at each request: the token of a service account is replaced every hour.
        token = self._configuration.get_api_key_with_prefix("BearerToken", "authorization")
        if token:
            told["Authorization"] = token
        elif self._configuration.username:
            told["Authorization"] = self._configuration.get_basic_auth_token() or ""
        data = None
        if body is not None:
            told["Content-Type"] = "application/json"
            data = json.dumps(body, separators=(",", ":")).encode()
        timeout = urllib3.Timeout(connect=CONNECT_S, read=read_s)
        begun, status = time.monotonic(), 0
        try:
            response = self._http.request(
                method,
                url,
                body=data,
                headers={**told, **headers},
                timeout=timeout,
                preload_content=False,
            )
            status = response.status
            return response
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(
                f"The API server {self._configuration.host} does not answer: {error}.",
                hint="Look whether it runs and whether KUBECONFIG names the right cluster.",
            ) from error
        finally:
            for listener in self._listeners:
                listener(method, path, status, time.monotonic() - begun)


def load(*, agent: str, kubeconfig: str = "") -> KubeClient:
    """Return a client: of the named kubeconfig, of ``KUBECONFIG``, or of the pod it runs in.

    Raises:
        InvalidSpec: There are no usable credentials.
    """
    configuration = kubernetes.client.Configuration()
    try:
        if not kubeconfig and os.environ.get(_IN_CLUSTER) and not os.environ.get("KUBECONFIG"):
            kubernetes.config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=kubeconfig or None, client_configuration=configuration
            )
    except (config_exception.ConfigException, OSError) as error:
        raise errors.InvalidSpec(
            f"No credentials for a Kubernetes cluster: {error}.",
            hint="Set KUBECONFIG, or run in a pod with a service account.",
            field="KUBECONFIG",
        ) from error
    return KubeClient(configuration, agent=agent)


def own_namespace(default: str = "default") -> str:
    """Return the namespace of the pod that this runs in, ``default`` outside of one."""
    path = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return path.read_text().strip() if path.exists() else default


def failure(method: str, path: str, status: int, data: bytes) -> errors.QuintileError:
    """Return the error of our family for an answer of the API server that is none."""
    try:
        said = json.loads(data)
    except ValueError:
        said = {}
    message = said.get("message") or data.decode(errors="replace")[:512] or f"status {status}"
    text = f"{method} {path}: {message}"
    causes = (said.get("details") or {}).get("causes") or []
    field = next((str(cause["field"]) for cause in causes if cause.get("field")), "")
    if status == 404:
        return errors.NotFound(text)
    if status == 410 or said.get("reason") == "Expired":
        return Gone(text)
    if status == 409:
        if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
            hint = "Change it where that manager gets it from."
            return Owned(text, hint=hint, field=field.lstrip("."))
        return errors.Conflict(text)
    if status in (400, 413, 415, 422):
        return errors.InvalidSpec(text, field=field)
    if status == 401:
        return errors.Unauthorized(text, hint="Look at the credentials for the API server.")
    if status == 403:
        return Rejected(text)
    seconds = (said.get("details") or {}).get("retryAfterSeconds") or 1
    return errors.Unavailable(text, retry_after_s=float(seconds))


def _lines(response: urllib3.BaseHTTPResponse, path: str) -> Iterator[meta.Document]:
    rest = b""
    try:
        for piece in response.stream(65536):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line:
                    yield _event(json.loads(line), path)
    except urllib3.exceptions.HTTPError:
        # A stream that breaks is a stream that ended: the caller continues from what it saw.
        return


def _event(said: meta.Document, path: str) -> meta.Document:
    if said["type"] == "ERROR":
        status = int(said["object"].get("code", 500))
        raise failure("WATCH", path, status, json.dumps(said["object"]).encode())
    return said
