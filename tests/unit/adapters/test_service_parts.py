"""Parts that services share: tokens, signed URLs, signals, problems, SQL sessions, the outbox."""

from __future__ import annotations

import asyncio
import pathlib
import threading
from collections.abc import Iterator

import pydantic
import pytest
import sqlalchemy as sa

from quintile.adapters import (
    http_guard,
    outbox,
    problem_json,
    signals,
    signed_urls,
    sql,
    tokens_ed25519,
)
from quintile.core import errors, identity

PEM = tokens_ed25519.new_private_pem()
CLAIMS = tokens_ed25519.TrialClaims(
    uid="u", attempt=2, namespace="default", trial="t", expires_s=1000
)


def verifier(pem: bytes = PEM) -> tokens_ed25519.TrialTokenVerifier:
    return tokens_ed25519.TrialTokenVerifier(tokens_ed25519.TrialTokenSigner(pem).public_pem())


def test_equal_claims_give_equal_tokens_that_say_them() -> None:
    signer = tokens_ed25519.TrialTokenSigner(PEM)
    token = signer.sign(CLAIMS)
    assert token == tokens_ed25519.TrialTokenSigner(PEM).sign(CLAIMS)
    assert verifier().verify(token, now_s=999.0) == CLAIMS


@pytest.mark.parametrize("change", ["", ".", "a.b", "other key", "late", "payload", "cut"])
def test_a_token_that_is_not_ours_opens_nothing(change: str) -> None:
    token = tokens_ed25519.TrialTokenSigner(PEM).sign(CLAIMS)
    payload, signature = token.split(".")
    now_s = 1000.0 if change == "late" else 0.0
    other = tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem()).sign(CLAIMS)
    forged = {
        "other key": other,
        "late": token,
        "payload": f"{payload[:-4]}AAAA.{signature}",
        "cut": token[:-10],
    }.get(change, change)
    with pytest.raises(errors.Unauthorized):
        verifier().verify(forged, now_s=now_s)


def test_the_key_file_is_made_once_and_is_private(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ed25519.pem"
    first = tokens_ed25519.ensure_private_pem(path)
    assert tokens_ed25519.ensure_private_pem(path) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_url_is_good_for_one_key_one_method_and_some_time() -> None:
    signer = signed_urls.UrlSigner(b"k" * 32, base_url="http://localhost/")
    url = signer.url("a/b", method="GET", expires_s=100)
    assert url.startswith("http://localhost/api/v1/bytes/a/b?expires=100&signature=")
    signature = url.rpartition("=")[2]
    signer.verify("a/b", method="GET", expires_s=100, signature=signature, now_s=99)
    for key, method, expires, now in (
        ("a/c", "GET", 100, 99),
        ("a/b", "PUT", 100, 99),
        ("a/b", "GET", 101, 99),
        ("a/b", "GET", 100, 100),
    ):
        with pytest.raises(errors.Forbidden):
            signer.verify(
                key,
                method=method,  # type: ignore[arg-type]
                expires_s=expires,
                signature=signature,
                now_s=now,
            )


def test_a_signal_wakes_threads_and_coroutines() -> None:
    signal = signals.Signal()
    version = signal.version

    async def both() -> bool:
        waiting = asyncio.ensure_future(signal.wait_async(version, timeout_s=30))
        threading.Timer(0.01, signal.notify).start()
        blocked = await asyncio.to_thread(signal.wait, version, timeout_s=30)
        return blocked and await waiting

    assert asyncio.run(both())
    assert signal.wait(version, timeout_s=0)
    assert not signal.wait(signal.version, timeout_s=0)
    assert not asyncio.run(signal.wait_async(signal.version, timeout_s=0.01))


def family(root: type[errors.QuintileError]) -> Iterator[type[errors.QuintileError]]:
    """The family of the core; services test what they add to it."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from family(child)


@pytest.mark.parametrize("kind", list(family(errors.QuintileError)))
def test_every_error_has_a_problem(kind: type[errors.QuintileError]) -> None:
    error = kind("It failed.", hint="Do this.", field="spec.a")
    body = problem_json.body_of(error, trace_id="t")
    assert body["status"] == kind.status
    assert body["title"] != "Error"
    assert body["type"].startswith("https://quintile.dev/problems/")
    assert body["errors"] == [{"field": "spec.a", "message": "It failed."}]
    answer = problem_json.response(error)
    assert answer.status_code == kind.status
    assert ("retry-after" in answer.headers) is issubclass(kind, errors.Unavailable)


def test_problems_name_nested_fields() -> None:
    class Inner(pydantic.BaseModel):
        size: int

    class Outer(pydantic.BaseModel):
        parts: list[Inner]

    with pytest.raises(problem_json.InvalidFields) as caught:
        problem_json.parse_as(Outer, {"parts": [{"size": 1}, {"size": "big"}]}, what="The part")
    assert caught.value.field == "parts[1].size"
    assert "'big'" in caught.value.message


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/a", 10),
        ("/b", 20),
        ("/b/c/d", 30),
        ("/bx", 20),
        ("/", 10),
        ("/p/x/up/1", 40),
        ("/p/up", 10),
    ],
)
def test_the_longest_prefix_gives_the_limit(path: str, limit: int) -> None:
    policy = http_guard.Policy(
        body_limit_bytes=10, body_limits={"/b": 20, "/b/c": 30, "/p/*/up/": 40}
    )
    assert policy.limit_of(path) == limit


@pytest.mark.parametrize(("held", "needed"), [("viewer", "labeler"), ("manager", "admin")])
def test_a_lower_role_is_forbidden(held: identity.Role, needed: identity.Role) -> None:
    caller = identity.Identity(kind="user", id="1", name="ada", roles={"p": held})
    identity.require(caller, "p", held)
    with pytest.raises(errors.Forbidden, match=f"ada is {held}"):
        identity.require(caller, "p", needed)
    with pytest.raises(errors.NotFound):
        identity.require(caller, "q", "viewer")


METADATA = sa.MetaData(naming_convention=sql.NAMING)
OUTBOX = outbox.table(METADATA)
NAMES = sa.Table("names", METADATA, sa.Column("name", sa.String(8), primary_key=True))


@pytest.fixture
def database(tmp_path: pathlib.Path) -> Iterator[sql.Database]:
    made = sql.Database(sql.create_engine(f"sqlite:///{tmp_path / 'a.db'}"))
    METADATA.create_all(made.engine)
    yield made
    made.dispose()


def test_a_write_commits_whole_or_not_at_all(database: sql.Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        session.execute(NAMES.insert().values(name="a"))
        raise RuntimeError
    with database.read() as session:
        assert session.scalars(sa.select(NAMES.c.name)).all() == []
    with pytest.raises(errors.Conflict), database.write() as session:
        session.execute(NAMES.insert(), [{"name": "a"}, {"name": "a"}])


def test_writers_queue_and_readers_do_not_wait(database: sql.Database) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write() as session:
            session.execute(NAMES.insert().values(name="a"))
            inside.set()
            assert leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(30)
    with database.read() as session:
        assert session.scalars(sa.select(NAMES.c.name)).all() == []
    leave.set()
    with database.write() as session:
        assert session.scalars(sa.select(NAMES.c.name)).all() == ["a"]
    thread.join(30)


def test_other_databases_are_refused() -> None:
    for url in ("mysql://x/y", "postgresql://x/y", "sqlite://", "nonsense"):
        with pytest.raises(errors.InvalidSpec):
            sql.create_engine(url)


def test_the_outbox_is_ordered_at_least_once_and_transactional(database: sql.Database) -> None:
    box = outbox.Outbox(database, OUTBOX)
    start = box.changed("", wait_s=0)
    assert start.keys == ()
    with pytest.raises(RuntimeError), database.write() as session:
        box.append(session, "Trial", "default", "never")
        raise RuntimeError
    with database.write() as session:
        for name in ("b", "a", "b"):
            box.append(session, "Trial", "default", name)
    changes = box.changed(start.cursor, wait_s=0)
    assert [key.name for key in changes.keys] == ["b", "a"]
    assert box.changed(changes.cursor, wait_s=0).keys == ()
    assert [key.name for key in box.changed(start.cursor, wait_s=0).keys] == ["b", "a"]


def test_a_waiting_tail_wakes_on_commit(database: sql.Database) -> None:
    box = outbox.Outbox(database, OUTBOX)
    cursor = box.cursor()

    def write() -> None:
        with database.write() as session:
            box.append(session, "Trial", "default", "a")

    threading.Timer(0.01, write).start()
    assert [key.name for key in box.changed(cursor, wait_s=30).keys] == ["a"]


def test_a_pruned_outbox_keeps_its_order(database: sql.Database) -> None:
    box = outbox.Outbox(database, OUTBOX)
    for number in range(5):
        with database.write() as session:
            box.append(session, "Trial", "default", str(number))
    with database.write() as session:
        box.prune(session, keep=2)
    assert [key.name for key in box.read("1").keys] == ["3", "4"]
    with pytest.raises(errors.InvalidSpec):
        box.read("x")
