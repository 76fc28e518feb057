"""What is kept comes back as it was, to this user and nobody else."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import WrongUsageError
from chinese_alpaca_rag.llms.prefix_store import DEFAULT_LIMIT, PrefixStore, block_keys, default_folder, space_of
from chinese_alpaca_rag.llms.prefix_store.block_file import opened, read_header
from tests.llms.prefix_store.samples import (
    ABOUT,
    FILE,
    STATE,
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


def test_what_was_kept_comes_back_in_another_object(store: PrefixStore) -> None:
    blocks = prompt("系统", "手册", "报告")
    put_all(store, blocks)
    again = PrefixStore(store.folder)
    for block in blocks:
        state = again.read(block.key, block.ids)
        assert state is not None and bytes(state) == state_of(block.key)
    assert again.usage().blocks == 3
    assert again.usage().bytes == 3 * FILE
    assert partial_files(store) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=600),
    state=st.binary(min_size=1, max_size=9000),
    labels=st.lists(st.text(max_size=2000), max_size=9),
)
def test_any_ids_state_and_labels(tmp_path: Path, ids: list[int], state: bytes, labels: list[str]) -> None:
    store = PrefixStore(tmp_path / "prefixes")
    store.clear()
    (key,) = block_keys(space_of({}), ids, [len(ids)])
    assert store.write(key, ids, bytearray(state), parent=None, about=ABOUT, labels=labels)
    found = store.read(key, ids)
    assert found is not None and bytes(found) == state
    (entry,) = store.entries()
    assert entry.labels == tuple(dict.fromkeys(labels))
    assert entry.tokens == len(ids)


def test_the_state_begins_at_a_page(store: PrefixStore) -> None:
    short = prompt("长")[0]
    block = Block(short.key, short.ids, None, ("很长的来源" * 500,))
    assert put(store, block)
    with opened(path_of(store, block)) as descriptor:
        length = read_header(descriptor).header_bytes
        assert length == os.lseek(descriptor, 0, os.SEEK_CUR) == path_of(store, block).stat().st_size - STATE
    assert length > 4096 and length % 4096 == 0
    assert got(store, block)


def test_nothing_is_made_before_something_is_written(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    assert not store.has(block.key)
    assert store.read(block.key, block.ids) is None
    assert store.entries() == []
    assert store.usage().blocks == store.clear().blocks == store.forget_documents(lambda _: True) == 0
    assert store.problem is None
    assert not store.folder.exists()


def test_a_block_that_another_has_written_is_left_as_it_is(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    assert put(store, block)
    before = path_of(store, block).stat()
    assert put(PrefixStore(store.folder), block)
    after = path_of(store, block).stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime_ns > before.st_mtime_ns


def test_a_block_stands_behind_its_parent_or_nowhere(store: PrefixStore) -> None:
    blocks = prompt("系统", "手册", "报告")
    put_all(store, blocks[:2])
    store.remove(blocks[1].key)
    assert not put(store, blocks[2])
    assert store.problem is not None and "no longer" in store.problem.en
    assert put(store, blocks[1]) and put(store, blocks[2])
    assert store.problem is None


def test_keys_that_do_not_belong_together_are_refused(store: PrefixStore) -> None:
    first, second = prompt("系统", "手册")
    other = prompt("别的")[0]
    for key, ids, parent in [
        (second.key, second.ids, None),
        (second.key, second.ids, other.key),
        (second.key, first.ids, first.key),
        (first.key, first.ids[:-1], None),
        (second.key, second.ids, prompt("系统", space=space_of({"other": 1}))[0].key),
    ]:
        with pytest.raises(ValueError):
            store.write(key, ids, b"state", parent=parent, about=ABOUT, labels=[])
    with pytest.raises(ValueError):
        store.write(first.key, first.ids, b"", parent=None, about=ABOUT, labels=[])
    assert store.usage().blocks == 0


def test_labels_beyond_all_measure_are_not_kept(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    assert not store.write(block.key, block.ids, b"state", parent=None, about=ABOUT, labels=["长" * 1_000_000])
    assert store.problem is not None and "names" in store.problem.en


def test_files_and_folders_are_private_whatever_the_umask(store: PrefixStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for mask, folder in ((0, store.folder), (0o777, tmp_path / "a" / "b")):
            os.umask(mask)
            made = PrefixStore(folder)
            put_all(made, blocks := prompt("系统", "手册"))
            made.set_limit(1 << 30)
            with made.claim(blocks[0].key) or pytest.fail("claimed"):
                pass
    finally:
        os.umask(before)
    for top in (store.folder, tmp_path / "a"):
        assert stat.S_IMODE(top.stat().st_mode) == 0o700
        for path in top.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722, 0o770])
def test_a_folder_that_others_may_write_to_is_not_used(store: PrefixStore, mode: int) -> None:
    block = prompt("系统")[0]
    assert put(store, block)
    store.folder.chmod(mode)
    other = PrefixStore(store.folder)
    assert not other.has(block.key)
    assert other.read(block.key, block.ids) is None
    assert store.read(block.key, block.ids) is None
    assert not put(other, prompt("别的")[0])
    assert other.problem is not None and "chmod 700" in other.problem.en and "chmod 700" in other.problem.zh
    store.folder.chmod(0o700)
    assert other.has(block.key)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user_is_not_used(store: PrefixStore) -> None:
    blocks = prompt("系统", "手册")
    put_all(store, blocks)
    os.chown(path_of(store, blocks[1]), 12345, 12345)
    assert store.read(blocks[1].key, blocks[1].ids) is None
    assert not store.has(blocks[1].key)
    os.chown(store.folder, 12345, 12345)
    other = PrefixStore(store.folder)
    assert not other.has(blocks[0].key)
    assert other.problem is not None
    assert not put(other, blocks[1])


def test_links_are_not_followed(store: PrefixStore, tmp_path: Path) -> None:
    block = prompt("系统")[0]
    assert put(store, block)
    place, elsewhere = path_of(store, block), tmp_path / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    assert not store.has(block.key)
    assert store.read(block.key, block.ids) is None
    assert not place.is_symlink()
    content = elsewhere.read_bytes()
    place.symlink_to(elsewhere)
    assert put(store, block)
    assert not place.is_symlink() and elsewhere.read_bytes() == content
    ledger = store.folder / "ledger"
    ledger.unlink()
    ledger.symlink_to(elsewhere)
    assert not put(store, prompt("别的")[0])
    assert store.problem is not None
    assert elsewhere.read_bytes() == content


def test_a_pipe_or_a_folder_in_a_blocks_place_holds_nobody_up(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    assert put(store, block)
    path_of(store, block).unlink()
    os.mkfifo(path_of(store, block))
    assert store.read(block.key, block.ids) is None
    assert put(store, block) and got(store, block)
    path_of(store, block).unlink()
    path_of(store, block).mkdir()
    assert store.read(block.key, block.ids) is None
    assert not put(store, block)
    assert store.problem is not None
    assert partial_files(store) == []


def test_a_store_works_in_another_place(store: PrefixStore, tmp_path: Path) -> None:
    blocks = prompt("系统", "手册")
    put_all(store, blocks)
    store.set_limit(9 << 20)
    shutil.copytree(store.folder, tmp_path / "copy")
    store.folder.rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        other = PrefixStore(tmp_path / name)
        assert all(got(other, block) for block in blocks)
        assert other.limit == 9 << 20


def test_a_store_of_a_later_version_is_left_alone(store: PrefixStore) -> None:
    blocks = prompt("系统", "手册")
    put_all(store, blocks)
    early = PrefixStore(store.folder)
    assert early.has(blocks[0].key)
    # The later version writes blocks in its own way.
    path = path_of(store, blocks[0])
    path.write_bytes(b"AlpacaKV\x02" + path.read_bytes()[9:])
    (store.folder / "store.json").write_text(json.dumps({"format": 2, "limit": 5}))
    content = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    late = PrefixStore(store.folder)
    for each in (early, late):
        assert each.read(blocks[0].key, blocks[0].ids) is None
        assert not put(each, prompt("别的")[0])
        assert each.problem is not None and "format 2" in each.problem.en
        assert each.clear().blocks == each.forget_documents(lambda _: True) == 0
        assert each.problem is not None
    assert late.entries() == [] and late.usage().blocks == 0
    assert content == {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}


def test_the_limit_is_the_folders(store: PrefixStore) -> None:
    assert store.limit == DEFAULT_LIMIT == 20 << 30
    store.set_limit(5 << 20)
    assert PrefixStore(store.folder).limit == store.usage().limit == 5 << 20
    assert PrefixStore(store.folder, limit=7).limit == 7
    early = PrefixStore(store.folder)
    assert early.limit == 5 << 20
    store.set_limit(0)
    assert early.limit == 0
    with pytest.raises(WrongUsageError):
        store.set_limit(-1)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"limit": -1}', b'{"limit": "a"}', b"[" * 100_000, b"\xff"])
def test_a_damaged_marker_is_as_none(store: PrefixStore, content: bytes) -> None:
    block = prompt("系统")[0]
    assert put(store, block)
    (store.folder / "store.json").write_bytes(content)
    other = PrefixStore(store.folder)
    assert got(other, block)
    assert other.limit == DEFAULT_LIMIT
    other.set_limit(1 << 30)
    assert other.limit == 1 << 30


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"AlpacaLG" + b"\xff" * 32])
def test_a_damaged_ledger_is_written_again(store: PrefixStore, content: bytes) -> None:
    blocks = prompt("系统", "手册", "报告")
    put_all(store, blocks[:2])
    (store.folder / "ledger").write_bytes(content)
    limited = PrefixStore(store.folder, limit=2 * FILE)
    assert not put(limited, blocks[2])
    assert put(store, blocks[2])
    assert PrefixStore(store.folder).usage().bytes == 3 * FILE


def test_threads_may_share_one_object(store: PrefixStore) -> None:
    prompts = [prompt("系统", f"手册 {number}", f"报告 {number}") for number in range(8)]
    wrong: list[BaseException] = []

    def work(blocks: list[Block]) -> None:
        try:
            put_all(store, blocks)
            assert all(got(store, block) for block in blocks)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(blocks,)) for blocks in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.usage().blocks == 17


def test_a_block_that_goes_between_has_and_read(store: PrefixStore) -> None:
    block = prompt("系统")[0]
    assert put(store, block) and store.has(block.key)
    PrefixStore(store.folder).clear()
    assert store.read(block.key, block.ids) is None
    assert held(store, [block]) == []


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/chinese-alpaca-rag/prefixes")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_folder() == Path("/home/someone/.cache/chinese-alpaca-rag/prefixes")
