"""Whatever happens to a file, what is read is right or is not there."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.prefix_store import PrefixStore, space_of
from chinese_alpaca_rag.llms.prefix_store.block_file import PAGE
from tests.llms.prefix_store.samples import STATE, Block, got, path_of, prompt, put, put_all, state_of

FIXED = struct.Struct("<8sIIIIQ16s16s")
FIELDS = ["magic", "version", "length", "count", "described", "state", "checksum", "own"]


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    return PrefixStore(tmp_path / "prefixes")


@pytest.fixture
def block(store: PrefixStore) -> Block:
    first, second = prompt("系统", "手册")
    put_all(store, [first, second])
    return second


def gone(store: PrefixStore, block: Block) -> bool:
    """Whether the block is not taken for one, and its file removed; a new one can be written."""
    state = store.read(block.key, block.ids)
    assert state is None or state == state_of(block.key)
    went = not path_of(store, block).exists()
    assert went == (state is None)
    assert put(store, block) and got(store, block)
    return went


def forged(content: bytes, change: Callable[[dict[str, Any]], None], **fields: int | bytes) -> bytes:
    """``content`` with a changed description and changed fields, and checksums that are right again."""
    named = dict(zip(FIELDS, FIXED.unpack_from(content), strict=True))
    ids_end = 64 + 4 * named["count"]
    facts = json.loads(content[ids_end : ids_end + named["described"]])
    change(facts)
    text = json.dumps(facts).encode()
    named.update(described=len(text), own=bytes(16))
    named.update(fields)
    header = bytearray(FIXED.pack(*named.values()) + content[64:ids_end] + text)
    header += bytes(max(0, PAGE - len(header)))
    if "own" not in fields:
        header[48:64] = xxhash.xxh3_128_digest(header)
    return bytes(header) + content[PAGE:]


def same(_: dict[str, Any]) -> None:
    """No change."""


def test_a_forged_header_without_a_change_is_right(store: PrefixStore, block: Block) -> None:
    path_of(store, block).write_bytes(forged(path_of(store, block).read_bytes(), same))
    assert not gone(store, block)


@pytest.mark.parametrize(
    "fields",
    [
        {"magic": b"AlpacaKW"},
        {"magic": bytes(8)},
        {"version": 0},
        {"version": 2},
        {"length": 0},
        {"length": PAGE - 1},
        {"length": 2 * PAGE},
        {"length": 1 << 31},
        {"count": 0},
        {"count": 15},
        {"count": 17},
        {"count": (1 << 32) - 1},
        {"described": 0},
        {"described": PAGE},
        {"described": (1 << 32) - 1},
        {"state": 0},
        {"state": STATE - 1},
        {"state": STATE + 1},
        {"state": 1 << 40},
        {"state": (1 << 64) - 1},
        {"checksum": bytes(16)},
        {"own": bytes(16)},
    ],
    ids=str,
)
def test_every_field_of_the_header(store: PrefixStore, block: Block, fields: dict[str, int | bytes]) -> None:
    path_of(store, block).write_bytes(forged(path_of(store, block).read_bytes(), same, **fields))
    assert gone(store, block)


@pytest.mark.parametrize(
    "change",
    [
        {"space": space_of({"other": 1})},
        {"space": "../../etc"},
        {"space": 5},
        {"digest": "00" * 32},
        {"digest": "zz"},
        {"parent": "00" * 32},
        {"start": 0, "end": 16},
        {"start": 17, "end": 33},
        {"start": 16, "end": 33},
        {"start": -16, "end": 0},
        {"start": "16"},
        {"start": 16.0},
        {"end": float("inf")},
        {"about": {}},
        {"about": None},
        {"about": {"model": 1, "format": "", "kv_type": "", "window": 1, "rope": ""}},
        {"about": {"model": "", "format": "", "kv_type": "", "window": "1", "rope": ""}},
        {"about": {"model": "", "format": "", "kv_type": "", "window": 1, "rope": "", "more": 1}},
        {"labels": None},
        {"labels": [1]},
        {"labels": "text"},
    ],
    ids=str,
)
def test_every_fact_of_the_description(store: PrefixStore, block: Block, change: dict[str, Any]) -> None:
    path_of(store, block).write_bytes(forged(path_of(store, block).read_bytes(), lambda facts: facts.update(change)))
    assert gone(store, block)


@pytest.mark.parametrize("text", [b"[" * 2000, b"5", b"null", b"[]", b"\xff\xfe", b"{" + b" " * 100])
def test_a_description_that_is_none(store: PrefixStore, block: Block, text: bytes) -> None:
    content = path_of(store, block).read_bytes()
    fields = list(FIXED.unpack_from(content))
    fields[4], fields[7] = len(text), bytes(16)
    header = bytearray(FIXED.pack(*fields) + content[64 : 64 + 64] + text)
    header += bytes(PAGE - len(header))
    header[48:64] = xxhash.xxh3_128_digest(header)
    path_of(store, block).write_bytes(bytes(header) + content[PAGE:])
    assert gone(store, block)
    assert store.entries() != []


def test_every_truncation_and_growth(store: PrefixStore, block: Block) -> None:
    content = path_of(store, block).read_bytes()
    lengths = [0, 1, 8, 63, 64, 100, 128, PAGE - 1, PAGE, PAGE + 1, len(content) // 2, len(content) - 1]
    for length in lengths:
        path_of(store, block).write_bytes(content[:length])
        assert gone(store, block), length
    path_of(store, block).write_bytes(content + b"x")
    assert gone(store, block)
    # As after a power cut: the length is right and nothing is there.
    path_of(store, block).write_bytes(bytes(len(content)))
    assert gone(store, block)
    path_of(store, block).write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert gone(store, block)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit(tmp_path: Path, data: st.DataObject) -> None:
    store = PrefixStore(tmp_path / "prefixes")
    block = prompt("系统")[0]
    assert put(store, block)
    content = bytearray(path_of(store, block).read_bytes())
    inside = data.draw(st.sampled_from([(0, 64), (64, 128), (128, 600), (600, PAGE), (PAGE, len(content))]))
    content[data.draw(st.integers(inside[0], inside[1] - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path_of(store, block).write_bytes(content)
    assert gone(store, block)


def test_a_right_block_in_a_wrong_place(store: PrefixStore, block: Block) -> None:
    other, space = prompt("别的")[0], prompt("系统", "手册", space=space_of({"weights": "b"}))
    content = path_of(store, block).read_bytes()
    for wrong in (other, space[0]):
        path_of(store, wrong).parent.mkdir(parents=True, exist_ok=True)
        path_of(store, wrong).write_bytes(content)
        assert store.read(wrong.key, wrong.ids) is None
        assert not path_of(store, wrong).exists()
    assert got(store, block)


def test_other_ids_than_those_asked_for(store: PrefixStore, block: Block) -> None:
    assert store.read(block.key, [*block.ids[:-1], 7]) is None
    assert not store.has(block.key)


def test_damage_found_by_looking_is_left_out(store: PrefixStore, block: Block) -> None:
    path_of(store, block).write_bytes(b"nothing")
    (entry,) = store.entries()
    assert entry.tokens == 16
    assert store.usage().blocks == 2


def test_a_million_files_of_others_are_nobodys_business(store: PrefixStore, block: Block) -> None:
    generator = random.Random(1)
    folder = path_of(store, block).parent
    for name in ["x.block", f"{'0' * 63}g.block", ".hidden", f"{'0' * 64}.block.tmp"]:
        (folder / name).write_bytes(generator.randbytes(100))
    (store.folder / "blocks" / "more").mkdir()
    (store.folder / "blocks" / ("0" * 64)).symlink_to("/etc")
    assert store.usage().blocks == 2
    assert len(store.entries()) == 1
    assert store.clear().blocks == 2
    assert (folder / "x.block").exists()
