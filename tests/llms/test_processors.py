from __future__ import annotations

import os
from pathlib import Path

import pytest

from chinese_alpaca_rag.llms.processors import physical_cores


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight processors, two to a core."""
    for number in range(8):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def test_processors_of_one_core_count_once(topology: Path) -> None:
    assert physical_cores(topology, topology / "none") == 4


def test_only_processors_that_the_process_may_use_count(topology: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6})
    assert physical_cores(topology, topology / "none") == 2


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("?", 4)])
def test_a_containers_share_is_not_exceeded(topology: Path, limit: str, cores: int) -> None:
    (topology / "cpu.max").write_text(limit)
    assert physical_cores(topology, topology / "cpu.max") == cores


def test_without_topology_each_processor_is_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert physical_cores(tmp_path, tmp_path / "none") == 6


def test_on_this_machine_there_is_at_least_one() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
