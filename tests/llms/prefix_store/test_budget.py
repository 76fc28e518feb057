"""The store stays below its limit, and what is least likely to be asked for goes first."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.prefix_store import PrefixStore, room
from chinese_alpaca_rag.llms.prefix_store.keys import before_first
from chinese_alpaca_rag.llms.prefix_store.tree import BlockFile, ancestors, files_in, leaving
from tests.llms.prefix_store.samples import FILE, SPACE, STATE, got, held, path_of, prompt, put, put_all


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


def test_the_least_recently_used_leaf_goes_first(folder: Path) -> None:
    store = PrefixStore(folder, limit=6 * FILE)
    first, second = prompt("系统", "甲", "乙", "丙"), prompt("系统", "丁", "戊")
    put_all(store, first)
    put_all(store, second[1:])
    # The longer one is used, so that the ends of the other one go, from the last on.
    assert all(got(store, block) for block in first)
    assert put(store, prompt("系统", "己")[1])
    assert (held(store, first), held(store, second)) == ([0, 1, 2, 3], [0, 1])
    assert put(store, prompt("系统", "庚")[1])
    assert (held(store, first), held(store, second)) == ([0, 1, 2, 3], [0])
    assert store.usage().bytes == 6 * FILE


def test_a_block_that_others_follow_stays_however_old_it_is(folder: Path) -> None:
    store = PrefixStore(folder, limit=3 * FILE)
    line = prompt("系统", "甲", "乙")
    put_all(store, line)
    for block in reversed(line):
        assert got(store, block)
    os.utime(path_of(store, line[0]), (1, 1))
    os.utime(path_of(store, line[1]), (2, 2))
    assert put(store, prompt("别的")[0])
    assert held(store, line) == [0, 1]


def test_what_comes_before_the_block_that_is_written_stays(folder: Path) -> None:
    store = PrefixStore(folder, limit=4 * FILE)
    old, line = prompt("旧", "一"), prompt("系统", "甲", "乙", "丙", "丁")
    put_all(store, old)
    put_all(store, line[:4])
    assert held(store, line) == [0, 1, 2, 3]
    assert held(store, old) == []
    # A beginning that does not fit in as a whole is kept as far as it does.
    assert not put(store, line[4])
    assert store.problem is not None and "alpaca-rag cache limit" in store.problem.en
    assert held(store, line) == [0, 1, 2, 3]
    # Another object knows nothing of what this one wrote.
    other = PrefixStore(folder, limit=4 * FILE)
    assert not put(other, line[4])
    assert held(store, line) == [0, 1, 2, 3]


def test_a_block_beyond_the_limit_displaces_nothing(folder: Path) -> None:
    store = PrefixStore(folder, limit=2 * FILE)
    line = prompt("系统", "甲")
    put_all(store, line)
    assert not put(store, prompt("大")[0], size=3 * STATE)
    assert store.problem is not None
    assert held(store, line) == [0, 1]


def test_a_limit_of_nothing_keeps_nothing(folder: Path) -> None:
    store = PrefixStore(folder)
    line = prompt("系统", "甲")
    put_all(store, line)
    store.set_limit(0)
    assert store.usage().blocks == 0
    assert not put(store, line[0])
    assert store.problem is not None and "0" in store.problem.en
    assert list(folder.rglob("*.block")) == []


def test_a_lower_limit_holds_at_once(folder: Path) -> None:
    store = PrefixStore(folder)
    line, other = prompt("系统", "甲", "乙"), prompt("别的")
    put_all(store, [*line, *other])
    store.set_limit(2 * FILE)
    assert store.usage().bytes == 2 * FILE
    assert held(store, line) == [0]
    assert held(store, other) == [0]


def test_what_others_remove_or_bring_is_counted(folder: Path) -> None:
    store = PrefixStore(folder, limit=3 * FILE)
    line = prompt("系统", "甲", "乙")
    put_all(store, line)
    path_of(store, line[2]).unlink()
    fresh = prompt("系统", "丙")[1]
    assert put(store, fresh)
    assert held(store, [*line, fresh]) == [0, 1, 3]
    # A process that begins later counts what is there, however it came.
    copy = path_of(store, line[1]).with_name("0" * 64 + ".block")
    copy.write_bytes(path_of(store, line[1]).read_bytes())
    later = PrefixStore(folder, limit=3 * FILE)
    assert put(later, prompt("系统", "丁")[1])
    assert not copy.exists()
    assert later.usage().bytes <= 3 * FILE


def test_what_is_of_no_use_goes_first(folder: Path) -> None:
    store = PrefixStore(folder, limit=5 * FILE)
    orphans, damaged, line = prompt("系统", "甲", "乙"), prompt("坏"), prompt("别的")
    put_all(store, line)
    put_all(store, [*orphans, *damaged])
    store.remove(orphans[0].key)
    path_of(store, damaged[0]).write_bytes(bytes(FILE))
    small = PrefixStore(folder, limit=4 * FILE)
    put_all(small, prompt("新", "新新"))
    assert held(store, line) == [0]
    assert len(held(store, orphans) + held(store, damaged)) == 1
    put_all(small, prompt("新", "新新", "新新新"))
    assert held(store, line) == [0]
    assert held(store, orphans) + held(store, damaged) == []


def test_a_clock_that_was_set_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**18)
    store = PrefixStore(folder, limit=3 * FILE)
    old = prompt("甲")[0]
    assert put(store, old)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    later = PrefixStore(folder, limit=3 * FILE)
    new, newer = prompt("乙")[0], prompt("丙")[0]
    assert put(later, new) and put(later, newer)
    # What was written in the future is not newer than what came after it.
    assert put(later, prompt("丁")[0])
    assert held(later, [old, new, newer]) == [1, 2]
    reader = PrefixStore(folder, limit=3 * FILE)
    assert got(reader, new)
    assert put(reader, prompt("戊")[0])
    assert held(reader, [old, new, newer]) == [1]
    assert all(entry.last_used.timestamp() <= time.time() + 1 for entry in reader.entries())


def test_a_full_store_is_not_looked_through_at_every_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PrefixStore(folder, limit=200 * (4096 + 10))
    looked = list[Path]()

    def looking(blocks: Path) -> dict[bytes, BlockFile]:
        looked.append(blocks)
        return files_in(blocks)

    monkeypatch.setattr(room, "files_in", looking)
    for number in range(300):
        assert put(store, prompt(f"第 {number} 份")[0], size=10)
    assert 196 <= store.usage().blocks <= 200
    assert len(looked) <= 40


@st.composite
def forests(draw: st.DrawFn) -> tuple[dict[bytes, BlockFile], dict[bytes, bytes]]:
    """Blocks, each behind an earlier one, the space, or something that is not there; some without a header."""
    files, parents = dict[bytes, BlockFile](), dict[bytes, bytes]()
    for number in range(draw(st.integers(0, 25))):
        digest = number.to_bytes(32, "big")
        files[digest] = BlockFile("", SPACE, digest, draw(st.integers(1, 9)), draw(st.integers(0, 5)))
        if draw(st.integers(0, 9)):
            before = [before_first(SPACE), *(list(files)[:-1]), b"missing" * 4]
            parents[digest] = before[draw(st.integers(0, len(before) - 1))]
    return files, parents


@given(forests(), st.integers(0, 30))
def test_no_block_goes_before_one_that_follows_it(
    forest: tuple[dict[bytes, BlockFile], dict[bytes, bytes]], chosen: int
) -> None:
    files, parents = forest
    staying = ancestors(chosen.to_bytes(32, "big"), parents)
    order = [file.digest for file in leaving(files, parents, staying)]
    assert sorted(order) == sorted(set(files) - staying)
    for place, digest in enumerate(order):
        assert parents.get(digest) not in order[:place]


def test_many_sizes_over_a_long_time(folder: Path) -> None:
    generator = random.Random(5)
    limit = 12 * FILE
    stores = [PrefixStore(folder, limit=limit) for _ in range(2)]
    for _ in range(120):
        store = generator.choice(stores)
        line = prompt("系统", *(f"{generator.randrange(5)}" for _ in range(generator.randrange(1, 4))))
        for block in line:
            if not got(store, block):
                put(store, block, size=generator.randrange(1, 2 * STATE))
        assert store.usage().bytes <= limit
    assert stores[0].usage().blocks > 3
    # Nothing is left that begins behind a gap.
    assert stores[0].forget_documents(lambda _: False) == 0
