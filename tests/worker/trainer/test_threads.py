"""Threads and memory come from the cgroup (version 1 or 2), not from the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from quintile_trainer import memory, threads

PLANS = {
    "a whole machine": ({"processors": 8, "quota": None, "ranks_on_host": 1}, 8),
    "a quota": ({"processors": 64, "quota": 4.0, "ranks_on_host": 1}, 4),
    "a part of a processor": ({"processors": 64, "quota": 0.5, "ranks_on_host": 1}, 1),
    "between two": ({"processors": 64, "quota": 2.9, "ranks_on_host": 1}, 2),
    "pinned below the quota": ({"processors": 2, "quota": 4.0, "ranks_on_host": 1}, 2),
    "shared": ({"processors": 8, "quota": None, "ranks_on_host": 3}, 2),
    "more ranks than processors": ({"processors": 2, "quota": None, "ranks_on_host": 5}, 1),
}


@pytest.mark.parametrize(("given", "expected"), PLANS.values(), ids=PLANS)
def test_threads_of_a_rank(given: dict[str, float | None], expected: int) -> None:
    assert threads.plan_threads(**given) == expected  # type: ignore[arg-type]


def cgroup2(root: Path, **limits: str) -> Path:
    """Make a version 2 tree with our process in ``/kube/pod``; keys are ``folder_file``."""
    (root / "kube" / "pod").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (root / "membership").write_text("0::/kube/pod\n")
    for place, text in limits.items():
        folder, _, name = place.partition("_")
        path = {"root": root, "kube": root / "kube", "pod": root / "kube" / "pod"}[folder]
        (path / name.replace("_", ".")).write_text(text)
    return root


QUOTAS = {
    "no limit": ({"pod_cpu_max": "max 100000\n"}, None),
    "ours": ({"pod_cpu_max": "150000 100000\n"}, 1.5),
    "a parent's is smaller": (
        {"pod_cpu_max": "400000 100000\n", "kube_cpu_max": "200000 100000\n"},
        2.0,
    ),
    "seen from inside": ({"root_cpu_max": "300000 100000\n"}, 3.0),
    "nothing there": ({}, None),
}


@pytest.mark.parametrize(("limits", "quota"), QUOTAS.values(), ids=QUOTAS)
def test_version_2(tmp_path: Path, limits: dict[str, str], quota: float | None) -> None:
    root = cgroup2(tmp_path, **limits)
    assert threads.quota(root, root / "membership") == quota


@pytest.mark.parametrize(("limit", "quota"), [("250000", 2.5), ("-1", None)])
def test_version_1(tmp_path: Path, limit: str, quota: float | None) -> None:
    folder = tmp_path / "cpu,cpuacct"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(f"{limit}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.quota(tmp_path, tmp_path / "none") == quota


def test_no_cgroup_at_all(tmp_path: Path) -> None:
    assert threads.quota(tmp_path, tmp_path / "none") is None


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*threads.VARIABLES, "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads.apply(3)
    found = {name: threads.os.environ[name] for name in threads.VARIABLES}
    assert found == {
        "OMP_NUM_THREADS": "7",
        "MKL_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "NUMEXPR_NUM_THREADS": "3",
    }


GIB = 1024**3


def machine(folder: Path, free_kib: int) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {free_kib} kB\n")
    return path


def test_memory_of_the_pod_counts_when_it_is_less(tmp_path: Path) -> None:
    root = cgroup2(tmp_path, root_memory_max=str(2 * GIB), root_memory_current=str(GIB))
    assert memory.free_bytes(root, machine(tmp_path, 64 * 1024**2)) == GIB
    assert memory.free_bytes(root, machine(tmp_path, 1024)) == 1024**2


def test_memory_without_a_limit_is_the_machines(tmp_path: Path) -> None:
    root = cgroup2(tmp_path, root_memory_max="max", root_memory_current="5")
    assert memory.free_bytes(root, machine(tmp_path, 1024)) == 1024**2


def test_memory_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("3000")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("1000")
    assert memory.free_bytes(tmp_path, machine(tmp_path, 1024)) == 2000


def test_ranks_share_a_part_of_the_memory() -> None:
    assert memory.budget_bytes(free_bytes=8 * GIB, ranks_on_host=2) == GIB
    assert memory.budget_bytes(free_bytes=-5, ranks_on_host=1) == 0
