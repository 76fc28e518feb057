from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.errors import LibraryError
from chinese_alpaca_rag.library.database import STRETCH
from chinese_alpaca_rag.library.records import Page, ParsedDocument, PassageSpan
from chinese_alpaca_rag.library.scope import Scope
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import parsed, put


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.open(tmp_path / "library", create=True)


def test_a_file_comes_back_as_it_was_put(library: Library) -> None:
    record = put(library, "/文档/手册.pdf", "第一页", "第二页", missing="第 3 页读不出")
    assert library.file("/文档/手册.pdf") == record
    assert library.files() == [record]
    assert (record.status, record.missing) == ("partial", "第 3 页读不出")
    assert (record.pages, record.passages, record.size) == (2, 2, 18)
    assert record.modified_ns == 1_700_000_000_000_000_001
    assert record.ingested_at.endswith("+00:00")
    assert library.page_text("/文档/手册.pdf", 2) == "第二页"
    assert library.file("/文档") is None


def test_passages_are_stretches_of_their_pages(library: Library) -> None:
    spans = [PassageSpan(1, 0, 2), PassageSpan(1, 1, 3, "章 › 节"), PassageSpan(2, 0, 3)]
    put(library, "/a", "甲乙丙", "𠮷野家", spans=spans)
    found = library.passages("/a")
    assert [passage.text for passage in found] == ["甲乙", "乙丙", "𠮷野家"]
    assert [passage.position for passage in found] == [0, 1, 2]
    assert [(passage.page, passage.page_label, passage.heading) for passage in found] == [
        (1, "p1", ""),
        (1, "p1", "章 › 节"),
        (2, "p2", ""),
    ]
    assert library.passage_count() == 3
    assert library.passages("/b") == []


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(alphabet=st.sampled_from("年a𠮷\n\0é\ud800"), min_size=1, max_size=30),
    copies=st.integers(1, 700),
    cuts=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 9000)), max_size=5),
)
def test_any_stretch_of_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, copies: int, cuts: list[tuple[int, int]]
) -> None:
    page = text * copies
    spans = [PassageSpan(1, start, min(len(page), start + length)) for start, length in cuts if start < len(page)]
    with Library.open(tmp_path_factory.mktemp("library"), create=True) as library:
        put(library, "/a", page, spans=spans)
        assert library.page_text("/a", 1) == page
        assert [found.text for found in library.passages("/a")] == [page[span.start : span.end] for span in spans]


@pytest.mark.parametrize("length", [STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH])
def test_a_passage_across_the_stored_stretches(library: Library, length: int) -> None:
    page = "".join(chr(0x4E00 + number % 5000) for number in range(length))
    put(library, "/a", page, spans=[PassageSpan(1, 0, length), PassageSpan(1, length - 1, length)])
    assert [found.text for found in library.passages("/a")] == [page, page[-1]]


def test_an_empty_page_is_a_page(library: Library) -> None:
    record = put(library, "/a", "", "字")
    assert (record.pages, record.passages) == (2, 1)
    assert library.page_text("/a", 1) == ""
    with pytest.raises(KeyError):
        library.page_text("/a", 3)


@pytest.mark.parametrize(
    "span", [PassageSpan(1, 0, 4), PassageSpan(1, -1, 2), PassageSpan(1, 2, 2), PassageSpan(2, 0, 1)]
)
def test_a_passage_outside_its_page_is_refused_and_nothing_is_stored(library: Library, span: PassageSpan) -> None:
    with pytest.raises(ValueError, match="no such place"):
        put(library, "/a", "甲乙丙", spans=[span])
    assert library.files() == []


def test_putting_a_path_again_replaces_it(library: Library) -> None:
    put(library, "/a", "旧的年假规定", "第二页")
    put(library, "/b", "别的")
    put(library, "/a", "新的差旅规定")
    assert [passage.text for passage in library.passages("/a")] == ["新的差旅规定"]
    assert [record.path for record in library.files()] == ["/a", "/b"]
    assert library.search("年假") == []
    assert library.passage_count() == 2


def test_a_change_that_fails_leaves_everything_as_it_was(library: Library) -> None:
    before = put(library, "/a", "旧的年假规定")
    twice = ParsedDocument(format="txt", title="", pages=(Page(1, "新"), Page(1, "新")))
    with pytest.raises(LibraryError):
        library.put_file(path="/a", sha256="", size=1, modified_ns=1, parser="", document=twice, spans=[])
    assert library.files() == [before]
    assert [passage.source for passage, _ in library.search("年假")] == ["/a"]


def test_files_with_the_same_content(library: Library) -> None:
    one, other = put(library, "/b", "同样"), put(library, "/a", "同样")
    put(library, "/c", "不同")
    assert library.files_with_content(one.sha256) == [other, one]


def test_moving_a_file_keeps_its_passages(library: Library) -> None:
    put(library, "/旧.txt", "年假规定", title="旧")
    put(library, "/新.txt", "将被覆盖", title="新")
    ids = [passage.id for passage in library.passages("/旧.txt")]
    library.move_file("/旧.txt", "/新.txt", modified_ns=7)
    assert [record.path for record in library.files()] == ["/新.txt"]
    assert [passage.id for passage in library.passages("/新.txt")] == ids
    moved = library.file("/新.txt")
    assert moved is not None
    assert (moved.modified_ns, moved.title) == (7, "新")
    assert library.search("旧") == []
    assert [passage.source for passage, _ in library.search("新")] == ["/新.txt"]


def test_moving_a_file_keeps_a_title_of_its_own(library: Library) -> None:
    put(library, "/旧.txt", "年假规定", title="员工手册")
    library.move_file("/旧.txt", "/新.txt", modified_ns=7)
    assert library.files()[0].title == "员工手册"


def test_touching_and_removing(library: Library) -> None:
    put(library, "/a", "年假规定")
    library.touch_file("/a", modified_ns=9)
    assert library.files()[0].modified_ns == 9
    library.remove_file("/a")
    assert (library.files(), library.passage_count(), library.search("年假")) == ([], 0, [])


def test_what_is_not_there_cannot_be_changed(library: Library) -> None:
    with pytest.raises(KeyError):
        library.remove_file("/a")
    with pytest.raises(KeyError):
        library.touch_file("/a", modified_ns=1)
    with pytest.raises(KeyError):
        library.move_file("/a", "/b", modified_ns=1)


def test_a_file_name_that_is_not_utf8(library: Library) -> None:
    path = os.fsdecode(b"/\xc4\xea\xbc\xd9.txt")
    put(library, path, "年假规定", title=os.fsdecode(b"\xc4\xea\xbc\xd9"))
    assert os.fsencode(library.files()[0].path) == b"/\xc4\xea\xbc\xd9.txt"
    assert library.file(path) is not None
    assert [passage.source for passage, _ in library.search("年假", scope=Scope((path,)))] == [path]
    library.move_file(path, path + "2", modified_ns=1)
    library.remove_file(path + "2")


def test_an_emptied_library_is_as_a_new_one(library: Library) -> None:
    for name in ("/a", "/b"):
        put(library, name, "年假规定", "𠮷 ZX-200 " * 2000, title=name, heading="章")
    put(library, "/a", "换过的")
    for record in library.files():
        library.remove_file(record.path)
    left = {
        table: library._rows(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("files", "pages", "stretches", "passages", "passage_terms_docsize")
    }
    assert set(left.values()) == {0}, left
    library._rows("INSERT INTO passage_terms (passage_terms) VALUES ('optimize')")
    library._rows("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, passage_terms, row)")
    assert library._rows("SELECT * FROM temp.vocabulary") == []


def test_the_index_is_made_anew_for_another_version_of_unicode(library: Library) -> None:
    put(library, "/a", "年假规定")
    library._rows("UPDATE about SET value = '1.0' WHERE name = 'unicode'")
    library._rows("INSERT INTO passage_terms (passage_terms) VALUES ('delete-all')")
    assert library.search("年假") == []
    put(library, "/b", "差旅规定")
    assert [passage.source for passage, _ in library.search("年假")] == ["/a"]


def test_only_the_owner_reads_a_new_library(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "library"
    with Library.open(folder, create=True) as library:
        put(library, "/a", "字")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_removed_text_is_not_left_in_the_file(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as library:
        put(library, "/a", "机密的价格是四十二元。" * 200)
        library.remove_file("/a")
    assert "机密的价格".encode() not in (tmp_path / "library.sqlite3").read_bytes()


def test_a_read_only_library_refuses_changes(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as library:
        put(library, "/a", "年假规定")
    with Library.open(tmp_path, readonly=True) as library:
        with pytest.raises(LibraryError) as caught:
            put(library, "/b", "字")
        assert "read" in caught.value.text("en")
        assert len(library.search("年假")) == 1


def test_readers_see_each_change_of_a_writer(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as writer, Library.open(tmp_path, readonly=True) as reader:
        assert reader.search("年假") == []
        put(writer, "/a", "年假规定")
        assert [passage.source for passage, _ in reader.search("年假")] == ["/a"]
        writer.remove_file("/a")
        assert reader.search("年假") == []


def test_many_threads_share_one_library(library: Library) -> None:
    for number in range(20):
        put(library, f"/{number}", f"第{number}号文件说的是年假")
    failures: list[object] = []

    def ask() -> None:
        for number in range(20):
            found = library.search(f"第{number}号文件", limit=1)
            if not found or found[0][0].source != f"/{number}":
                failures.append(found)

    def write() -> None:
        for number in range(20, 30):
            put(library, f"/{number}", "别的内容")

    threads = [threading.Thread(target=target) for target in (ask, ask, write, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(library.files()) == 30


def test_a_closed_library_says_so(library: Library) -> None:
    library.close()
    library.close()
    with pytest.raises(ValueError, match="closed"):
        library.files()


def test_the_order_of_files_is_by_path(library: Library) -> None:
    for name in ("/乙", "/a", "/甲", "/B"):
        put(library, name, "字")
    assert [record.path for record in library.files()] == sorted(["/乙", "/a", "/甲", "/B"])


def test_a_document_without_passages(library: Library) -> None:
    record = library.put_file(path="/a", sha256="0", size=0, modified_ns=0, parser="x", document=parsed(""), spans=[])
    assert (record.passages, record.status, library.passages("/a")) == (0, "complete", [])


def test_a_full_disk_is_an_error_and_loses_nothing(library: Library) -> None:
    before = put(library, "/a", "年假规定")
    pages = library._rows("PRAGMA page_count")[0][0]
    library._rows(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LibraryError, match=r"full"):
        put(library, "/b", "差旅规定" * 100_000)
    library._rows("PRAGMA max_page_count=100000000")
    assert library.files() == [before]
    put(library, "/b", "差旅规定")
    assert [passage.source for passage, _ in library.search("差旅")] == ["/b"]
