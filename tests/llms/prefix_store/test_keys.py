"""A block is named by every id up to its end and by all that it was computed with."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chinese_alpaca_rag.llms.prefix_store import BlockKey, block_keys, space_of
from tests.llms.prefix_store.samples import ROOT, SPACE

IDS = st.lists(st.integers(0, 55_295), min_size=2, max_size=60)


def test_the_digest_is_what_the_format_says() -> None:
    first, second = block_keys(SPACE, [1, 2, 70_000, -1], [3, 4])
    expected = hashlib.sha256(bytes.fromhex(SPACE) + struct.pack("<3i", 1, 2, 70_000)).digest()
    assert first == BlockKey(SPACE, expected, 0, 3)
    assert second == BlockKey(SPACE, hashlib.sha256(expected + struct.pack("<i", -1)).digest(), 3, 4)
    assert block_keys(SPACE, np.array([1, 2, 70_000, -1], np.int32).tolist(), [3, 4]) == [first, second]
    assert block_keys(SPACE, [], []) == block_keys(SPACE, [1], []) == []


@given(IDS, st.data())
def test_equal_keys_are_equal_beginnings_cut_alike(ids: list[int], data: st.DataObject) -> None:
    ends = sorted(data.draw(st.sets(st.integers(1, len(ids)), min_size=1)))
    keys = block_keys(SPACE, ids, ends)
    assert [(key.start, key.end) for key in keys] == list(zip([0, *ends], ends, strict=False))
    assert block_keys(SPACE, [*ids, 5], ends) == keys
    changed = list(ids)
    place = data.draw(st.integers(0, ends[-1] - 1))
    changed[place] += 1
    for key, other in zip(keys, block_keys(SPACE, changed, ends), strict=True):
        assert (key == other) == (key.end <= place)
    for key, other in zip(keys, block_keys(space_of({"other": 1}), ids, ends), strict=True):
        assert key.digest != other.digest


@pytest.mark.parametrize("ends", [[0], [2, 2], [3, 2], [-1], [4]])
def test_ends_that_are_none(ends: list[int]) -> None:
    with pytest.raises(ValueError):
        block_keys(SPACE, [1, 2, 3], ends)


@pytest.mark.parametrize("space", ["", "a" * 63, "A" * 64, "../" * 21 + "a", "a" * 63 + "\n", "é" * 64])
def test_only_digests_become_names_of_files(space: str) -> None:
    with pytest.raises(ValueError):
        BlockKey(space, bytes(32), 0, 1)
    with pytest.raises(ValueError):
        BlockKey(SPACE, bytes(31), 0, 1)


def test_ids_beyond_32_bits_are_refused() -> None:
    with pytest.raises(OverflowError):
        block_keys(SPACE, [1 << 31], [1])


def test_a_space_is_all_its_facts() -> None:
    facts: dict[str, object] = {"weights": "a", "rope": {"alpha": 2.0, "factor": None}, "options": [1, True]}
    assert space_of(facts) == space_of(dict(reversed(facts.items())))
    others: list[dict[str, object]] = [
        {**facts, "weights": "b"},
        {**facts, "rope": {"alpha": 2.5, "factor": None}},
        {**facts, "rope": {"alpha": 2.0, "factor": 1.0}},
        {**facts, "options": [True, 1]},
        {**facts, "more": None},
    ]
    assert len({space_of(each) for each in [facts, *others]}) == 6
    for wrong in (float("nan"), b"bytes", {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            space_of({"fact": wrong})


def test_keys_are_the_same_in_every_process() -> None:
    program = (
        "from chinese_alpaca_rag.llms.prefix_store import block_keys, space_of\n"
        "print(block_keys(space_of({'b': 1.5, 'a': '中'}), range(40), [16, 40])[-1].digest.hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {block_keys(space_of({"a": "中", "b": 1.5}), range(40), [16, 40])[-1].digest.hex() + "\n"}


def test_the_package_loads_neither_a_backend_nor_numpy() -> None:
    program = (
        "import sys, chinese_alpaca_rag.llms.prefix_store\n"
        "print([name for name in ('numpy', 'torch', 'llama_cpp', 'langchain_core') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True)
    assert ended.stdout == "[]\n"
