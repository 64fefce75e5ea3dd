"""Settings and key files of a process in a cluster: what is refused, and what follows from them."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading

import pytest

from quintile import settings
from quintile.adapters import cluster_site, key_files, readiness, tokens_ed25519
from quintile.core import errors, origin

CLAIMS = tokens_ed25519.TrialClaims(
    uid="u", attempt=1, namespace="n", trial="t", expires_s=2_000_000_000
)


def made(**changes: object) -> settings.Settings:
    return settings.Settings(
        public_url="https://quintile.example.com",
        api_url="http://quintile-api.q.svc:8420",
        labeling_url="http://quintile-labeling.q.svc:8420",
        **changes,  # type: ignore[arg-type]
    )


def test_our_own_addresses_are_served_and_the_public_one_may_change_things() -> None:
    hosts = cluster_site.hosts(made())
    assert hosts[:3] == ("localhost", "127.0.0.1", "[::1]")
    assert hosts[3:] == ("quintile.example.com", "quintile-api.q.svc", "quintile-labeling.q.svc")
    assert cluster_site.origins(made()) == ("https://quintile.example.com",)
    assert cluster_site.origins(settings.Settings()) == ()


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "QUINTILE_S3__ENDPOINT"),
        ({"endpoint": "http://s3"}, "QUINTILE_S3__ACCESS_KEY"),
        ({"endpoint": "http://s3", "access_key": "a"}, "QUINTILE_S3__SECRET_KEY"),
    ],
)
def test_a_missing_setting_of_the_store_is_named(given: dict[str, str], key: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=f"{key} is missing"):
        cluster_site.open_objects(made(s3=given))


@pytest.mark.parametrize("module", ["quintile_api.main", "quintile_labeling.main"])
def test_a_process_that_cannot_start_says_why(module: str, tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"QUINTILE_KEYS": str(tmp_path), "QUINTILE_API__ALLOWED_HOSTS": "q"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("quintile: The se")
    assert "QUINTILE_" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_read_from_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "service-token").write_text("  secret\n")
    (tmp_path / "empty").write_text("\n")
    assert key_files.read_text(tmp_path, "service-token") == "secret"
    with pytest.raises(errors.InvalidSpec, match="empty is empty"):
        key_files.read(tmp_path, "empty")
    with pytest.raises(errors.InvalidSpec, match="none cannot be read: .*QUINTILE_KEYS"):
        key_files.read(tmp_path, "none")


def test_two_public_keys_hold_while_one_takes_over() -> None:
    old, new, other = (
        tokens_ed25519.TrialTokenSigner(tokens_ed25519.new_private_pem()) for _ in range(3)
    )
    both = tokens_ed25519.TrialTokenVerifier(new.public_pem() + b"\n" + old.public_pem())
    for signer in (old, new):
        assert both.verify(signer.sign(CLAIMS), now_s=0.0) == CLAIMS
    with pytest.raises(errors.Unauthorized):
        both.verify(other.sign(CLAIMS), now_s=0.0)
    with pytest.raises(errors.Unauthorized):
        tokens_ed25519.TrialTokenVerifier(new.public_pem()).verify(old.sign(CLAIMS), now_s=0.0)
    for bad in (b"", b"nonsense", new.public_pem().replace(b"MCow", b"AAAA")):
        with pytest.raises(errors.InvalidSpec):
            tokens_ed25519.TrialTokenVerifier(bad)


def test_readiness_names_everything_that_is_away() -> None:
    asked = threading.Barrier(2, timeout=20)

    def away() -> None:
        asked.wait()
        raise errors.Unavailable("It sleeps.")

    def fine() -> None:
        # Asked at the same time as the other one, so that slow parts do not add up.
        asked.wait()

    with pytest.raises(errors.Unavailable, match=r"Not ready\. The store: It sleeps\.") as caught:
        readiness.check({"The store": away, "The database": fine})
    assert "The database" not in str(caught.value)
    readiness.check({})


def test_a_part_that_is_away_is_waited_for() -> None:
    tries: list[int] = []

    def make() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise errors.Unavailable("not yet")
        return "made"

    assert cluster_site.patiently(make, pause_s=0.001) == "made"
    with pytest.raises(errors.InvalidSpec):
        cluster_site.patiently(lambda: key_files.read(pathlib.Path("/nowhere"), "a"))


@pytest.mark.parametrize(
    ("path", "labeling"),
    [
        ("/api/v1/projects/p/labeling-jobs", True),
        ("/api/v1/projects/p/labeling-jobs/j/tasks/next", True),
        ("/api/v1/internal/labeling/facts/changes", True),
        ("/api/v1/labeling/health", True),
        ("/api/v1/projects/p/labeling-jobsters", False),
        ("/api/v1/projects/p/q/labeling-jobs", False),
        ("/api/v1/internal/facts/changes", False),
        ("/labeling", False),
    ],
)
def test_which_service_answers(path: str, labeling: bool) -> None:
    assert origin.is_labeling(path) is labeling
