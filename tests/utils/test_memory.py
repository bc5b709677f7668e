"""The free memory of a machine and a container."""

from __future__ import annotations

import pytest
import torch

from utils.memory import _cgroup_available, available_bytes
from utils.text import human_bytes


def write_cgroup(folder, limit: str, used: int, cached: int) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    active, inactive = cached // 4, cached - cached // 4
    (folder / "memory.stat").write_text(f"anon {used - cached}\nactive_file {active}\ninactive_file {inactive}\n")


def test_a_containers_cached_files_do_not_count_as_used(tmp_path):
    write_cgroup(tmp_path, "4000", used=3900, cached=3000)
    assert _cgroup_available(tmp_path) == 3100


def test_no_limit_and_no_container_are_unknown(tmp_path):
    assert _cgroup_available(tmp_path) is None
    write_cgroup(tmp_path, "max", used=3900, cached=0)
    assert _cgroup_available(tmp_path) is None


def test_this_machine_has_some():
    available = available_bytes(torch.device("cpu"))
    assert available is None or 2**20 < available < 2**60


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (1234567, "1.23 MB"), (999_600, "1 MB"), (276e6, "276 MB"), (2e12, "2 TB"),
])
def test_bytes_for_people(count, text):
    assert human_bytes(count) == text
