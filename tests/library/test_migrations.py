"""Libraries of a former format are brought to this one when they are opened to be written, with all that is in them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import LibraryFormatError
from chinese_alpaca_rag.library.care import check_library
from chinese_alpaca_rag.library.database import FILE_NAME, FORMAT
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put


@pytest.fixture
def first_format(tmp_path: Path) -> Path:
    """A library as format 1 had it: no tags, neither confidence nor hidden text of files."""
    with Library.open(tmp_path, create=True) as library:
        for number in range(5):
            put(library, f"/{number}", f"第{number}号文件讲年假。", missing="" if number else "第 2 页")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.executescript(
            "DROP TABLE vectors; DROP TABLE embedders; DROP INDEX passages_by_digest;"
            "ALTER TABLE passages DROP COLUMN digest;"
            "DROP TABLE tags; DROP TABLE copies; ALTER TABLE files DROP COLUMN confidence;"
            "ALTER TABLE files DROP COLUMN hidden; PRAGMA user_version=1"
        )
    return tmp_path


def test_all_that_is_in_a_library_stays(first_format: Path) -> None:
    with Library.open(first_format, create=True) as library:
        assert check_library(library) == []
        assert [(one.path, one.missing, one.confidence, one.tags) for one in library.files()][:2] == [
            ("/0", "第 2 页", 1.0, ()),
            ("/1", "", 1.0, ()),
        ]
        assert len(library.search("年假")) == 5
        put(library, "/new", "新文件。")
        library.tag_files(["/new", "/1"], add=["人事"])
    with Library.open(first_format, readonly=True) as library:
        assert [one.path for one in library.files() if "人事" in one.tags] == ["/1", "/new"]
    with closing(sqlite3.connect(first_format / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)


def test_the_tables_are_those_of_a_new_library(first_format: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    Library.open(first_format, create=True).close()
    fresh = tmp_path_factory.mktemp("fresh")
    Library.open(fresh, create=True).close()

    def columns(folder: Path) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
            return connection.execute(
                'SELECT tables.name, columns.name, columns.type, columns."notnull", columns.dflt_value'
                " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns ORDER BY 1, 2"
            ).fetchall()

    assert columns(first_format) == columns(fresh)


def test_reading_only_says_how_to_go_on(first_format: Path) -> None:
    before = (first_format / FILE_NAME).read_bytes()
    with pytest.raises(LibraryFormatError, match="library rebuild"):
        Library.open(first_format, readonly=True)
    assert (first_format / FILE_NAME).read_bytes() == before


def test_an_interrupted_migration_changes_nothing(first_format: Path) -> None:
    with closing(sqlite3.connect(first_format / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE tags (in_the_way)")  # the last step fails
        connection.commit()
    with pytest.raises(Exception, match="tags"):
        Library.open(first_format, create=True)
    with closing(sqlite3.connect(first_format / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        names = [row[1] for row in connection.execute("PRAGMA table_info(files)")]
        assert "confidence" not in names


def test_tags_go_with_their_file_and_stay_when_it_changes(tmp_path: Path) -> None:
    with Library.open(tmp_path, create=True) as library:
        put(library, "/a", "旧内容。")
        library.tag_files(["/a"], add=["合同", "2024", "合同"])
        put(library, "/a", "新内容。")
        assert library.files()[0].tags == ("2024", "合同")
        library.move_file("/a", "/b", modified_ns=1)
        library.tag_files(["/b"], remove=["2024"])
        assert library.files()[0].tags == ("合同",)
        with pytest.raises(KeyError):
            library.tag_files(["/b", "/none"], add=["x"])
        assert library.files()[0].tags == ("合同",)
        library.remove_file("/b")
        assert library._rows("SELECT count(*) FROM tags") == [(0,)]
