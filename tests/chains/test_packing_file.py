"""Packings on disk: what a file may hold, who may read it, and what happens to one that is damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.chains.packing_file import MOST_IN_FILE, PackingFile
from chinese_alpaca_rag.chains.packings import PackedSource, Packing, RecentPackings
from tests.chains.keeping_model import KeepingModel, RankedRetriever
from tests.chains.test_sticky import LEAVES, PRICES, SAFE, TRAVELS, shown

UNDER, ELSEWHERE = "a" * 64, "b" * 64


def packing(*numbers: int, under: str = UNDER) -> Packing:
    sources = (
        PackedSource(f"{number:064x}", 1, 10 * number, 10 * number + 5, place, f"{number:064x}")
        for place, number in enumerate(numbers, start=1)
    )
    return Packing(under, tuple(sources))


def test_what_is_remembered_is_there_for_the_next_process(tmp_path: Path) -> None:
    file = PackingFile(tmp_path / "cache" / "packings" / "x.json")
    assert file.recall(UNDER) == []
    for number in (1, 2, 3):
        file.remember(packing(number))
    file.remember(packing(4, under=ELSEWHERE))
    file.remember(packing(2, 5))
    again = PackingFile(file.path)
    # The last first; what is only the beginning of another goes.
    assert again.recall(UNDER) == [packing(2, 5), packing(3), packing(1)]
    assert again.recall(ELSEWHERE) == [packing(4, under=ELSEWHERE)]
    again.forget(packing(3))
    assert file.recall(UNDER) == [packing(2, 5)]
    assert file.recall(ELSEWHERE) == [packing(4, under=ELSEWHERE)]


def test_only_its_owner_may_read_it_and_it_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "packings" / "x.json"
    asked = {"价格？": [PRICES, TRAVELS, SAFE], "年假？": [LEAVES, SAFE, PRICES, TRAVELS]}
    model = KeepingModel()
    for question in asked:  # a chain each, as two processes would have
        retriever = RankedRetriever(rankings=asked, k=3)
        create_qa_chain(model, retriever, packings=PackingFile(path)).invoke(question)
    assert len(shown(model)[1]) == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_text(encoding="ascii")
    assert "docs" not in content
    assert not any(ord(character) > 127 for character in content)
    assert [len(json.loads(line)[1]) for line in content.splitlines()] == [4]


def test_the_file_stays_small(tmp_path: Path) -> None:
    file = PackingFile(tmp_path / "x.json")
    for number in range(MOST_IN_FILE + 9):
        file.remember(packing(number))
    assert file.recall(UNDER) == [packing(MOST_IN_FILE + 8 - age) for age in range(MOST_IN_FILE)]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]\n{}\n1\nnull\n",
        b'["' + b"a" * 64 + b'", []]\n',
        b'["x", [["a", 1, 0, 5, 1, "b"]]]\n',
        f'["{UNDER}", [["{UNDER}", 1, 0, 5, true, "{UNDER}"]]]\n'.encode(),
        f'["{UNDER}", [["{UNDER}", 1, 0, 1e400, 1, "{UNDER}"]]]\n'.encode(),
        f'["{UNDER}", [["{UNDER}", 1, 0, {10**50}, 1, "{UNDER}"]]]\n'.encode(),
        f'["{UNDER}", [["{UNDER}", 1, 0, {"9" * 9999}, 1, "{UNDER}"]]]\n'.encode(),
        f'["{UNDER}", [["{UNDER}", 1, 0, 5, 1]]]\n'.encode(),
        f'["{UNDER}", [5]]\n'.encode(),
        b"[" * 100_000,
        b" " * (17 << 20),
    ],
    ids=range(13),
)
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    file = PackingFile(tmp_path / "x.json")
    file.path.write_bytes(damage)
    assert file.recall(UNDER) == []
    file.remember(packing(1))
    assert file.recall(UNDER) == [packing(1)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_or_changed_anywhere_gives_packings_or_nothing(data: st.DataObject) -> None:
    from tempfile import TemporaryDirectory

    known = [packing(1, 2), packing(3), packing(4, 5)]
    with TemporaryDirectory() as folder:
        file = PackingFile(Path(folder) / "x.json")
        for each in known:
            file.remember(each)
        content = bytearray(file.path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[place:]
        else:
            content[place] = data.draw(st.integers(0, 255))
        file.path.write_bytes(content)
        found = file.recall(UNDER)
        assert len(found) <= len(known)
        assert sum(each in known for each in found) >= len(found) - 1
        file.remember(packing(9))
        assert file.recall(UNDER)[0] == packing(9)


def test_what_a_killed_process_left_goes_in_time(tmp_path: Path) -> None:
    file = PackingFile(tmp_path / "x.json")
    old, new = tmp_path / "x.jsonabc.part", tmp_path / "x.jsondef.part"
    for left in (old, new):
        left.write_text("half")
    os.utime(old, (time.time() - 3600, time.time() - 3600))
    file.remember(packing(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.jsondef.part"]


def test_a_disk_that_refuses_it_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    model = KeepingModel()
    retriever = RankedRetriever(rankings={"价格？": [PRICES]})
    chain = create_qa_chain(model, retriever, packings=PackingFile(tmp_path / "file" / "x.json"))
    assert chain.invoke("价格？").answer
    assert RecentPackings().recall(UNDER) == []


def _remember(path: Path, first: int) -> None:
    file = PackingFile(path)
    for number in range(first, first + 40):
        file.remember(packing(number))
        assert file.recall(UNDER)


def test_processes_that_write_at_once_damage_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_remember, args=(path, 100 * number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = PackingFile(path).recall(UNDER)
    assert 1 <= len(found) <= MOST_IN_FILE
    assert len(set(found)) == len(found) == len(path.read_text().splitlines())
    assert [left for left in tmp_path.iterdir() if left != path] == []
