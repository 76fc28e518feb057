"""What is listed, and what is removed: with a document goes all that was computed behind it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chinese_alpaca_rag.llms.prefix_store import PrefixEntry, PrefixStore, SpaceFacts, space_of
from chinese_alpaca_rag.llms.prefix_store.folder import PartialFile
from tests.llms.prefix_store.samples import (
    ABOUT,
    FILE,
    SPACE,
    Block,
    got,
    held,
    partial_files,
    path_of,
    prompt,
    put,
    put_all,
    state_of,
)


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    return PrefixStore(tmp_path / "prefixes")


def test_one_entry_for_each_end(store: PrefixStore) -> None:
    put_all(store, prompt("系统", "甲", "乙"))
    put_all(store, prompt("系统", "甲", "丙", "甲")[2:])
    put_all(store, prompt("别的"))
    begun = datetime.now(UTC)
    assert got(store, prompt("系统", "甲", "乙")[2])
    first, second, third = store.entries()
    assert first == PrefixEntry(
        model="chinese-alpaca-2-7b-16k",
        format="gguf",
        kv_type="q8_0",
        rope="linear",
        window=16384,
        space=SPACE,
        digest=prompt("系统", "甲", "乙")[2].key.digest.hex()[:12],
        tokens=48,
        bytes=FILE,
        total_bytes=3 * FILE,
        last_used=first.last_used,
        labels=("系统", "甲", "乙"),
    )
    assert begun - timedelta(seconds=1) <= first.last_used <= datetime.now(UTC)
    assert (second.tokens, second.bytes, second.total_bytes, second.labels) == (16, FILE, FILE, ("别的",))
    assert (third.tokens, third.bytes, third.total_bytes) == (64, 2 * FILE, 4 * FILE)
    assert third.labels == ("系统", "甲", "丙")


def test_a_document_goes_with_all_behind_it(store: PrefixStore) -> None:
    kept, first, second = prompt("系统", "乙", "丙"), prompt("系统", "甲", "丙", "丁"), prompt("系统", "丙", "甲")
    for line in (kept, first, second):
        put_all(store, line)
    assert store.forget_documents(lambda label: label == "甲") == 4
    assert store.problem is None
    assert (held(store, kept), held(store, first), held(store, second)) == ([0, 1, 2], [0], [0, 1])
    assert store.usage().bytes == 4 * FILE
    assert store.forget_documents(lambda label: label == "甲") == 0
    assert store.forget_documents(lambda _: True) == 4
    assert not any((store.folder / "blocks").iterdir())


def test_one_of_several_labels_is_enough(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    both = Block(block.key, block.ids, None, ("甲", "乙"))
    assert put(store, both)
    assert store.forget_documents(lambda label: label == "乙") == 1


def test_what_may_be_from_the_document_goes_too(store: PrefixStore) -> None:
    line, other = prompt("系统", "甲", "乙"), prompt("别的", "另外")
    put_all(store, [*line, *other])
    # Nobody can say any more what came before 乙, nor what the file was that is damaged now.
    store.remove(line[1].key)
    path_of(store, other[1]).write_bytes(b"damaged")
    assert store.forget_documents(lambda label: label == "甲") == 2
    assert (held(store, line), held(store, other)) == ([0], [0])


class _Slow(PartialFile):
    """Writes when it is told to."""

    reached = threading.Event()
    go_on = threading.Event()

    def write(self, *parts: bytes | bytearray | memoryview) -> None:
        super().write(*parts)
        self.reached.set()
        assert self.go_on.wait(20)


@pytest.mark.parametrize("which", [0, 1], ids=["the document's own block", "a block behind it"])
def test_what_is_being_written_meanwhile_is_not_kept(
    store: PrefixStore, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    line = prompt("甲", "问题")
    put_all(store, line[:which])
    monkeypatch.setattr("chinese_alpaca_rag.llms.prefix_store.folder.PartialFile", _Slow)
    _Slow.reached.clear()
    _Slow.go_on.clear()
    kept: list[bool] = []
    writer = threading.Thread(target=lambda: kept.append(put(store, line[which])))
    writer.start()
    assert _Slow.reached.wait(20)
    other = PrefixStore(store.folder)
    assert other.forget_documents(lambda label: label == "甲") == which
    _Slow.go_on.set()
    writer.join()
    assert kept == [False]
    assert store.problem is not None
    assert store.usage().blocks == 0
    assert partial_files(store) == []


def test_what_was_taken_from_a_document_before_it_was_forgotten(store: PrefixStore) -> None:
    block, later = prompt("甲")[0], prompt("乙")[0]
    since = store.generation

    def kept(block: Block, since: int) -> bool:
        state = state_of(block.key)
        return store.write(block.key, block.ids, state, parent=None, about=ABOUT, labels=block.labels, since=since)

    assert kept(block, since)
    assert PrefixStore(store.folder).forget_documents(lambda label: label == "甲") == 1
    assert not kept(block, since)
    assert store.problem is not None and "removed" in store.problem.en
    assert store.generation != since
    assert kept(later, store.generation)


def test_clearing_all_a_space_or_a_model(store: PrefixStore) -> None:
    other = space_of({"weights": "b"})
    third = SpaceFacts(model="chinese-alpaca-2-13b", format="hf", kv_type="float16", window=4096)
    put_all(store, prompt("系统", "甲"))
    put_all(store, prompt("系统", "甲", space=other), about=third)
    put_all(store, prompt("系统", space=space_of({"weights": "c"})), about=third)
    assert store.clear(space="../..").blocks == 0
    assert store.clear(space=other).blocks == 2
    removed = store.clear(model="chinese-alpaca-2-13b")
    assert (removed.blocks, removed.bytes) == (1, FILE)
    assert held(store, prompt("系统", "甲")) == [0, 1]
    put_all(store, prompt("系统", space=other), about=third)
    assert store.clear().bytes == 3 * FILE
    assert store.usage().blocks == 0
    assert not any((store.folder / "blocks").iterdir())
    put_all(store, prompt("系统", "甲"))


def test_what_cannot_be_removed_is_said(store: PrefixStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    put_all(store, prompt("系统", "甲"))
    whole = os.unlink

    def refusing(path: str, **options: int) -> None:
        if str(path).endswith(".block"):
            raise PermissionError(13, "Permission denied", path)
        whole(path, **options)

    monkeypatch.setattr(os, "unlink", refusing)
    assert store.forget_documents(lambda _: True) == 0
    assert store.problem is not None and "could not be removed" in store.problem.en


def test_forgetting_goes_on_where_another_process_is_stuck(store: PrefixStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from chinese_alpaca_rag.llms.prefix_store import store as module
    from chinese_alpaca_rag.llms.prefix_store.locks import close_lockable, lock_file

    line = prompt("系统", "甲")
    put_all(store, line)
    monkeypatch.setattr(module, "_REMOVING_PATIENCE", 0.05)
    monkeypatch.setattr(module, "_WRITING_PATIENCE", 0.05)
    stuck = lock_file(store.folder / "ledger", 0)
    assert stuck is not None
    begun = time.monotonic()
    assert not put(store, prompt("别的")[0])
    assert store.problem is not None and "busy" in store.problem.en
    assert store.forget_documents(lambda label: label == "甲") == 1
    assert all(got(store, block) for block in line[:1])
    assert time.monotonic() - begun < 20
    close_lockable(stuck)
    assert put(store, line[1])
