"""How many cores a process may use: affinity, and the quotas of control groups of both versions."""

from __future__ import annotations

import os

import pytest

from utils import cores
from utils.cores import count_cores, quotas


def group(root, path: str, **files: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / path / name.replace("__", ".")).write_text(text, encoding="utf-8")


def own(tmp_path, *lines: str):
    path = tmp_path / "cgroup"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_version_two_reads_the_own_group_and_those_above(tmp_path):
    root = tmp_path / "fs"
    group(root, "pod/job", cpu__max="max 100000\n")
    group(root, "pod", cpu__max="250000 100000\n")
    assert list(quotas(root, own(tmp_path, "0::/pod/job"))) == [2.5]


def test_a_container_sees_its_own_group_at_the_root_whatever_its_path_on_the_host_is(tmp_path):
    group(tmp_path / "fs", "", cpu__max="200000 100000\n")
    assert list(quotas(tmp_path / "fs", own(tmp_path, "0::/system.slice/docker-0123.scope"))) == [2.0]
    assert list(quotas(tmp_path / "fs", own(tmp_path, "0::/"))) == [2.0]


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_one_reads_the_group_of_the_cpu_controller(tmp_path, mount):
    root = tmp_path / "fs"
    group(root, f"{mount}/docker/0123", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="50000\n")
    group(root, mount, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    group(root, "memory/docker/0123", cpu__cfs_quota_us="1\n", cpu__cfs_period_us="1\n")
    lines = ("4:memory:/docker/0123", "2:cpu,cpuacct:/docker/0123", "1:name=systemd:/docker/0123", "0::/")
    assert list(quotas(root, own(tmp_path, *lines))) == [3.0]


@pytest.mark.parametrize("text", ["", "max 100000", "100000", "100000 0", "-1 100000", "many few"])
def test_a_file_without_a_limit_is_none(tmp_path, text):
    group(tmp_path / "fs", "", cpu__max=text)
    assert list(quotas(tmp_path / "fs", own(tmp_path, "0::/"))) == []


def test_no_control_groups_are_no_limit(tmp_path):
    assert list(quotas(tmp_path / "fs", tmp_path / "nothing")) == []


@pytest.mark.parametrize(("affinity", "found", "count"), [
    (64, [2.0], 2), (2, [64.0], 2), (64, [1.5], 2), (64, [0.25], 1), (64, [8.0, 3.0], 3), (5, [], 5)])
def test_the_least_limit_counts_and_a_part_of_a_core_is_one(monkeypatch, affinity, found, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "quotas", lambda: iter(found))
    assert count_cores() == count
