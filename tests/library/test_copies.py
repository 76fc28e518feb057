"""The same bytes under several paths are stored once, and go when the last of the paths does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chinese_alpaca_rag.library.care import check_library
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path, create=True) as opened:
        put(opened, "/甲.txt", "年假为十五天。", title="甲")
        opened.put_copy("/乙.txt", of="/甲.txt", size=9, modified_ns=7)
        yield opened
        assert check_library(opened) == []


def test_a_copy_is_no_second_file(library: Library) -> None:
    assert [(one.path, one.copies) for one in library.files()] == [("/甲.txt", ("/乙.txt",))]
    assert [passage.source for passage, _ in library.search("年假")] == ["/甲.txt"]
    assert [passage.source for passage, _ in library.search("年假", scope=Scope(("/乙.txt",)))] == ["/甲.txt"]
    copy = library.copy("/乙.txt")
    assert copy is not None
    assert (copy.file.path, copy.size, copy.modified_ns) == ("/甲.txt", 9, 7)
    assert library.copy("/甲.txt") is None
    assert library.file("/乙.txt") is None


def test_the_copy_stands_for_a_file_that_goes(library: Library) -> None:
    library.tag_files(["/甲.txt"], add=["人事"])
    library.remove_file("/甲.txt")
    [record] = library.files()
    assert (record.path, record.title, record.modified_ns, record.copies) == ("/乙.txt", "乙", 7, ())
    assert record.tags == ("人事",)
    assert [passage.title for passage, _ in library.search("年假")] == ["乙"]
    library.remove_file("/乙.txt")
    assert library.files() == []
    assert library.search("年假") == []


def test_the_copy_keeps_the_old_content_when_a_file_changes(library: Library) -> None:
    put(library, "/甲.txt", "病假要证明。")
    assert {one.path: library.page_text(one.path, 1) for one in library.files()} == {
        "/甲.txt": "病假要证明。",
        "/乙.txt": "年假为十五天。",
    }


def test_copies_that_change_or_go(library: Library) -> None:
    library.touch_file("/乙.txt", modified_ns=8)
    assert library.copies()[0].modified_ns == 8
    put(library, "/乙.txt", "另外的内容。")
    assert library.copies() == []
    assert len(library.files()) == 2
    library.put_copy("/丙.txt", of="/乙.txt", size=1, modified_ns=1)
    library.remove_files(["/丙.txt", "/乙.txt"])
    assert [one.path for one in library.files()] == ["/甲.txt"]
    with pytest.raises(KeyError):
        library.put_copy("/x", of="/none", size=1, modified_ns=1)
    with pytest.raises(KeyError):
        library.put_copy("/甲.txt", of="/甲.txt", size=1, modified_ns=1)
    assert [one.path for one in library.files()] == ["/甲.txt"]


def test_a_file_moves_onto_its_copy(library: Library) -> None:
    library.move_file("/甲.txt", "/乙.txt", modified_ns=9)
    assert [(one.path, one.copies) for one in library.files()] == [("/乙.txt", ())]


def test_names_that_are_no_utf_8(library: Library) -> None:
    library.put_copy("/\udcff", of="/甲.txt", size=1, modified_ns=1)
    assert library.files()[0].copies == ("/乙.txt", "/\udcff")
    library.remove_file("/甲.txt")
    assert library.files()[0].copies == ("/\udcff",)
