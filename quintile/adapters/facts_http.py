"""Port ``Facts`` over HTTP: the internal routes of the API and of the labeling service.

Used by the operator in a cluster. Each half is tailed by a thread that waits in a long request
and rings when there is news, so that a change is seen at once and an idle platform costs a
request per half and half minute. The service token opens the routes.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Final, TypeVar
from urllib import parse

import pydantic
import urllib3

from quintile import logs
from quintile.adapters import facts_joined, signals
from quintile.core import errors, fact_messages, facts, meta, problems

API_ROUTE: Final = "/api/v1/internal/facts"
LABELING_ROUTE: Final = "/api/v1/internal/labeling/facts"
LONG_S: Final = 25.0
"""How long a tail's request waits for news; the services take 30 s at most."""

POLL_S: Final = 15.0
"""How often to look although no tail rang."""

TIMEOUT_S: Final = 30.0
CONNECT_S: Final = 5.0
PAUSE_S: Final = 1.0
CONNECTIONS: Final = 8
"""Kept to one service: a look per worker of the operator at most, and the tail."""
_LOG: Final = logs.get(__name__)

MessageT = TypeVar("MessageT", bound=meta.Message)


class HttpFacts:
    """Port ``Facts``. ``close`` ends its threads and connections.

    Args:
        api_url: Base URL of the API.
        labeling_url: Base URL of the labeling service.
        service_token: Secret that opens the internal routes.
    """

    def __init__(self, api_url: str, labeling_url: str, service_token: str) -> None:
        bell = signals.Signal()
        self._trials = HttpTrialFacts(_Caller(api_url, service_token), bell)
        self._jobs = HttpJobFacts(_Caller(labeling_url, service_token), bell)
        self._joined = facts_joined.JoinedFacts(self._trials, self._jobs, bell=bell, poll_s=POLL_S)

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return keys changed after ``since``; see the port.

        Raises:
            Unavailable: Both services are away.
            Unauthorized: The service token is not theirs.
        """
        return self._joined.changed(since, wait_s=wait_s)

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; see the port."""
        return self._trials.trial(uid)

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job; see the port."""
        return self._jobs.job(uid)

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Hand a labeling job to the labeling service; see the port."""
        return self._jobs.admit(document)

    def close(self) -> None:
        """End threads and connections. Idempotent."""
        self._trials.close()
        self._jobs.close()


class _Half:
    """What both halves do: look at the changes, and let a tail ring for news."""

    def __init__(self, caller: _Caller, bell: signals.Signal, route: str) -> None:
        self._caller = caller
        self._route = route
        self._tail = _Tail(self._fetch, bell, name=route)

    def changed(self, since: str, *, wait_s: float) -> facts.Changes:
        """Return what changed by now; the bell rings for more."""
        changes = self._fetch(since, wait_s)
        self._tail.follow(changes.cursor)
        return changes

    def close(self) -> None:
        """End the tail and the connections."""
        self._tail.close()
        self._caller.close()

    def _fetch(self, since: str, wait_s: float) -> facts.Changes:
        query = parse.urlencode({"since": since, "wait_s": wait_s})
        found = self._caller.call(
            fact_messages.ChangesView,
            "GET",
            f"{self._route}/changes?{query}",
            patience_s=wait_s + TIMEOUT_S,
        )
        return facts.Changes(keys=found.keys, cursor=found.cursor)


class HttpTrialFacts(_Half):
    """The API's half."""

    def __init__(self, caller: _Caller, bell: signals.Signal) -> None:
        super().__init__(caller, bell, API_ROUTE)

    def trial(self, uid: str) -> facts.TrialFacts:
        """Return the facts of a trial; see the port."""
        path = f"{API_ROUTE}/trials/{parse.quote(uid, safe='')}"
        return self._caller.call(fact_messages.TrialFactsView, "GET", path).trial


class HttpJobFacts(_Half):
    """The labeling service's half."""

    def __init__(self, caller: _Caller, bell: signals.Signal) -> None:
        super().__init__(caller, bell, LABELING_ROUTE)

    def job(self, uid: str) -> facts.JobFacts | None:
        """Return the facts of a labeling job; see the port."""
        path = f"{LABELING_ROUTE}/jobs/{parse.quote(uid, safe='')}"
        return self._caller.call(fact_messages.JobFactsView, "GET", path).job

    def admit(self, document: meta.Document) -> facts.JobFacts:
        """Hand a labeling job to the labeling service; see the port."""
        body = fact_messages.Admission(document=document).model_dump(mode="json")
        found = self._caller.call(
            fact_messages.JobFactsView, "POST", f"{LABELING_ROUTE}/admit", body=body
        )
        if found.job is None:
            raise errors.Unavailable("The labeling service took a job and forgot it.")
        return found.job


class _Tail:
    """A thread that waits for news behind a cursor and rings; started by the first cursor."""

    def __init__(self, fetch: Any, bell: signals.Signal, *, name: str) -> None:
        self._fetch = fetch
        self._bell = bell
        self._name = name
        self._changed = threading.Condition()
        self._cursor = ""
        self._told = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, cursor: str) -> None:
        """Wait behind this cursor from now on."""
        with self._changed:
            if cursor == self._cursor or self._closed.is_set():
                return
            self._cursor = cursor
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"facts{self._name}", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Ask the thread to end; it does when its request returns."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()

    def _run(self) -> None:
        away = False
        while (cursor := self._next()) is not None:
            try:
                changes = self._fetch(cursor, LONG_S)
            except errors.QuintileError as error:
                if not away and not self._closed.is_set():
                    _LOG.warning("facts are away", route=self._name, error=str(error))
                away = True
                self._closed.wait(PAUSE_S)
                continue
            if away:
                _LOG.info("facts are back", route=self._name)
                away = False
                self._bell.notify()
            if changes.keys:
                self._told = cursor
                self._bell.notify()

    def _next(self) -> str | None:
        """Return the cursor to wait behind; block while its news was told already."""
        with self._changed:
            while self._cursor == self._told and not self._closed.is_set():
                self._changed.wait()
            return None if self._closed.is_set() else self._cursor


class _Caller:
    """Requests to one service. Thread-safe.

    urllib3 and not httpx: 1.0 against 1.6 ms of processor time for the same small request, and a
    look of the operator costs one.
    """

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False)

    def close(self) -> None:
        """Close the connections that are free."""
        self._http.clear()

    def call(
        self,
        answer: type[MessageT],
        method: str,
        path: str,
        *,
        body: Any = None,
        patience_s: float = TIMEOUT_S,
    ) -> MessageT:
        """Send one request and read its answer.

        Raises:
            Unavailable: The service is away or answers nonsense.
            QuintileError: What its problem document says.
        """
        try:
            try:
                found = self._send(method, path, body, patience_s)
            except urllib3.exceptions.ProtocolError:
                # The service closed a kept connection just now; all our calls may be repeated.
                found = self._send(method, path, body, patience_s)
        except urllib3.exceptions.HTTPError as error:
            raise errors.Unavailable(
                f"{self._base_url} does not answer: {error}.",
                hint="Check that the service runs and that its address is right.",
            ) from error
        if not 200 <= found.status < 300:
            raise problems.to_error(found.status, found.data, found.headers)
        try:
            return answer.model_validate_json(found.data)
        except pydantic.ValidationError as error:
            raise errors.Unavailable(
                f"{self._base_url} gave an answer to {method} {path.partition('?')[0]} that this "
                "release does not understand.",
                hint="Run the same release everywhere.",
            ) from error

    def _send(
        self, method: str, path: str, body: Any, patience_s: float
    ) -> urllib3.BaseHTTPResponse:
        headers, data = self._headers, None
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
            data = json.dumps(body).encode()
        return self._http.request(
            method,
            f"{self._base_url}{path}",
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=patience_s),
            redirect=False,
        )
