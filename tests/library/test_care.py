"""Checking, rebuilding, rescuing, exporting, and what deleting leaves behind: nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import LibraryError, LibraryFormatError
from chinese_alpaca_rag.library.care import (
    check_library,
    compact_library,
    erase_deleted,
    exported_files,
    is_erasing_due,
    rebuild_index,
    rescue,
)
from chinese_alpaca_rag.library.database import FILE_NAME
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put

_SECRET = "绝密计划魑魅魍魉 zebrafish。"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "kb", create=True) as opened:
        for number in range(40):
            put(
                opened,
                f"/{number:02}.txt",
                f"第{number}号文件讲年假。" * 80,
                f"第二页{number}。",
                title=f"文件{number}",
            )
        yield opened


def held(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_a_library_is_whole(library: Library) -> None:
    assert check_library(library) == []
    put(library, "/surrogate\udcff", "名字不是 UTF-8。\U00020bb7")
    assert check_library(library) == []


def test_a_missing_index_row_is_found_and_rebuilt(library: Library) -> None:
    with library.changing():
        library._connection.execute("INSERT INTO passage_terms (passage_terms) VALUES ('delete-all')")
    [problem] = check_library(library)
    assert "80 missing" in problem.en
    assert library.search("年假") == []
    assert rebuild_index(library) == 80
    assert check_library(library) == []
    assert library.search("年假")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE files SET passages = 9 WHERE path = '/03.txt'", "not as many"),
        ('UPDATE passages SET "end" = 100000 WHERE id = 5', "outside of its page"),
    ],
)
def test_contradictions_are_told_by_file(library: Library, damage: str, said: str) -> None:
    with library.changing():
        library._connection.execute(damage)
    [problem] = check_library(library)
    assert said in problem.en
    assert "/0" in problem.en


def test_what_is_left_of_a_damaged_file_is_saved(library: Library, tmp_path: Path) -> None:
    library._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    library.close()
    file = tmp_path / "kb" / FILE_NAME
    data = bytearray(file.read_bytes())
    places = [place for place in range(8192, len(data), 4096) if "讲年假".encode() in data[place : place + 4096]]
    generator = random.Random(7)
    for place in places[5:8]:
        data[place : place + 4096] = generator.randbytes(4096)
    file.write_bytes(data)
    with (
        Library.open(tmp_path / "kb", readonly=True) as damaged,
        Library.open(tmp_path / "new", create=True) as target,
    ):
        assert check_library(damaged)
        seen: list[str] = []
        found = rescue(damaged, target, lambda path, _number, _total: seen.append(path))
        assert len(seen) == 40
        assert 1 <= len(found.lost) < 15
        assert found.saved == 40 - len(found.lost) == len(target.files())
        assert check_library(target) == []
        for record in target.files():
            number = int(Path(record.path).stem)
            assert target.page_text(record.path, 1) == f"第{number}号文件讲年假。" * 80


def test_a_file_without_its_beginning_is_refused(library: Library, tmp_path: Path) -> None:
    library.close()
    file = tmp_path / "kb" / FILE_NAME
    file.write_bytes(b"x" * 4096 + file.read_bytes()[4096:])
    with pytest.raises(LibraryFormatError, match="rebuild --to"):
        Library.open(tmp_path / "kb", readonly=True)


def test_an_export_holds_everything(library: Library) -> None:
    files = list(exported_files(library))
    assert [one["path"] for one in files] == [record.path for record in library.files()]
    first = files[0]
    for place, passage in zip(first["passages"], library.passages("/00.txt"), strict=True):
        text = next(page["text"] for page in first["pages"] if page["number"] == place["page"])
        assert text[place["start"] : place["end"]] == passage.text


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_nothing_of_a_deleted_text_stays_in_the_files(library: Library, tmp_path: Path, change: str) -> None:
    wanted = [_SECRET.encode(), b"zebrafish", "魑魅".encode(), b"zyxtitle"]
    put(library, "/secret", _SECRET * 300, title="zyxtitle")
    for number in range(40, 60):
        put(library, f"/{number}.txt", f"后来的文件{number}。" * 80)
    assert all(word in held(tmp_path / "kb") for word in wanted)
    assert not is_erasing_due(library)
    if change == "removed":
        library.remove_file("/secret")
    else:
        put(library, "/secret", "公开的内容。")
    assert is_erasing_due(library)
    erase_deleted(library)
    assert not is_erasing_due(library)
    assert not [word for word in wanted if word in held(tmp_path / "kb")]
    assert check_library(library) == []


def test_compacting_gives_space_back(library: Library, tmp_path: Path) -> None:
    library.remove_files([f"/{number:02}.txt" for number in range(35)])
    before, after = compact_library(library)
    assert after < 0.5 * before
    assert after == (tmp_path / "kb" / FILE_NAME).stat().st_size
    assert check_library(library) == []
    assert len(library.files()) == 5


def test_a_library_for_reading_is_not_changed(library: Library, tmp_path: Path) -> None:
    library.close()
    with Library.open(tmp_path / "kb", readonly=True) as reading:
        assert check_library(reading) == []
        for work in (rebuild_index, compact_library, erase_deleted):
            with pytest.raises(LibraryError):
                work(reading)
