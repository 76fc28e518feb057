"""What was computed from a library's files goes with them: before the file does, and after any kill."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chinese_alpaca_rag.labels import document_label, read_label
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.library.derived import Derived
from chinese_alpaca_rag.library.records import FileRecord
from chinese_alpaca_rag.library.store import Library
from tests.library.samples import put

ROOT = Path(__file__).resolve().parents[2]


class Shelf:
    """Things on disk, each a file that holds the labels of the documents it was computed from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked = 0
        self.problem: Words | None = None
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def add(self, *labels: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{len(list(self.folder.iterdir()))}-{random.random()}").write_text(json.dumps(labels))

    def labels(self) -> set[str]:
        return {label for file in self.folder.glob("*") for label in json.loads(file.read_text())}

    def forget_documents(self, wanted_gone: Callable[[str], bool], /) -> int:
        self.asked += 1
        self.before()
        gone = [file for file in self.folder.glob("*") if any(map(wanted_gone, json.loads(file.read_text())))]
        for file in gone:
            file.unlink()
        self.after()
        return len(gone)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


def label_of(library: Library, record: FileRecord) -> str:
    return document_label(library.absolute_folder, record.path, record.sha256)


def kept_of(library: Library, shelf: Shelf, path: str, text: str) -> str:
    """Store a file and something computed from it; its label."""
    label = label_of(library, put(library, path, text))
    shelf.add(label)
    return label


def test_a_removed_file_takes_along_what_was_computed_from_it(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        first, second = kept_of(library, shelf, "/a", "一"), kept_of(library, shelf, "/b", "二")
        shelf.add(second, first)
        elsewhere = document_label("/another/library", "/a", "0" * 64)
        shelf.add(elsewhere, "/a file of no library")
        library.remove_file("/a")
        assert shelf.labels() == {second, elsewhere, "/a file of no library"}
        assert library.derived_problems == ()


def test_files_that_go_together_are_asked_about_once(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        labels = [kept_of(library, shelf, f"/{number}", str(number)) for number in range(4)]
        asked = shelf.asked
        with pytest.raises(KeyError):
            library.remove_files(["/0", "/nowhere"])
        assert len(library.files()) == 4
        assert (shelf.asked, shelf.labels()) == (asked, set(labels))
        library.remove_files(["/0", "/1", "/2"])
        assert (shelf.asked, shelf.labels()) == (asked + 1, {labels[3]})


def test_a_version_that_is_replaced_and_a_place_that_is_left_go_too(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        old = kept_of(library, shelf, "/a", "旧")
        shelf.add(document_label(library.absolute_folder, "/a", "an even older version"))
        new = kept_of(library, shelf, "/a", "新")
        assert old != new
        assert shelf.labels() == {new}
        replaced = kept_of(library, shelf, "/b", "乙")
        library.move_file("/a", "/b", modified_ns=1)
        assert replaced not in shelf.labels()
        assert shelf.labels() == set()


def test_what_was_read_from_the_same_file_without_the_library_goes_too(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        put(library, "/a", "一")
        shelf.add("/a")
        shelf.add("/b")
        library.remove_file("/a")
        assert shelf.labels() == {"/b"}


def test_nothing_is_asked_where_nothing_goes(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        asked = shelf.asked
        kept = kept_of(library, shelf, "/a", "一")
        library.touch_file("/a", modified_ns=5)
        with pytest.raises(KeyError):
            library.remove_file("/nowhere")
        with pytest.raises(KeyError):
            library.move_file("/nowhere", "/elsewhere", modified_ns=1)
        assert (shelf.asked, shelf.labels()) == (asked, {kept})


def test_a_change_that_fails_forgets_nothing(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        first, second = kept_of(library, shelf, "/a", "一"), kept_of(library, shelf, "/b", "二")
        with pytest.raises(KeyError):
            library.move_file("/nowhere", "/b", modified_ns=1)  # "/b" was dropped already, and is back
        assert shelf.labels() == {first, second}
        library.remove_file("/a")
        assert shelf.labels() == {second}


def test_it_is_forgotten_before_the_change_is_kept(folder: Path, shelf: Shelf) -> None:
    seen = []
    with Library.open(folder, create=True, derived=[shelf]) as library, Library.open(folder, readonly=True) as reader:
        kept_of(library, shelf, "/a", "一")
        shelf.after = lambda: seen.append(reader.file("/a") is not None)
        library.remove_file("/a")
        assert seen == [True]
        assert reader.file("/a") is None


def test_a_shelf_that_fails_stops_nothing_and_is_told_of(folder: Path, shelf: Shelf) -> None:
    class Broken:
        problem = None

        def forget_documents(self, wanted_gone: Callable[[str], bool], /) -> int:
            raise PermissionError(13, "Permission denied", "/cache/prefixes")

    broken: Derived = Broken()
    with Library.open(folder, create=True, derived=[broken, shelf]) as library:
        kept_of(library, shelf, "/a", "一")
        kept_of(library, shelf, "/b", "二")
        library.remove_file("/a")
        library.remove_file("/b")
        assert library.files() == []
        assert shelf.labels() == set()
        [problem] = library.derived_problems
        assert "Permission denied" in problem.message.en
        assert "/cache/prefixes" in problem.message.zh
        assert "alpaca-rag cache clear" in problem.hint.en


def test_a_shelf_that_says_what_stayed_is_told_of_once(folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True, derived=[shelf]) as library:
        for number in range(3):
            put(library, f"/{number}", "字")
        shelf.problem = Words(zh="只读磁盘", en="read-only disk")
        for number in range(3):
            library.remove_file(f"/{number}")
        [problem] = library.derived_problems
        assert "只读磁盘" in problem.message.zh
        assert "read-only disk" in problem.message.en


def test_what_could_not_be_removed_goes_when_the_library_is_next_written(folder: Path, shelf: Shelf) -> None:
    def fail() -> None:
        raise OSError("disk on fire")

    with Library.open(folder, create=True, derived=[shelf]) as library:
        gone, stays = kept_of(library, shelf, "/a", "一"), kept_of(library, shelf, "/b", "二")
        shelf.before = fail
        library.remove_file("/a")
        assert len(library.derived_problems) == 1
        assert shelf.labels() == {gone, stays}
    shelf.before = lambda: None
    with Library.open(folder, readonly=True, derived=[shelf]) as reader:
        assert shelf.labels() == {gone, stays}
        assert reader.reconcile() == 1, "a reader does it when it is told to"
    shelf.add(gone)
    with Library.open(folder, derived=[shelf]) as library:
        assert shelf.labels() == {gone, stays}
        library.touch_file("/b", modified_ns=1)
        assert shelf.labels() == {stays}, "with the right to write"
    shelf.add(gone)
    with Library.open(folder, create=True, derived=[shelf]) as library:
        assert shelf.labels() == {stays}
        assert library.derived_problems == ()


def test_reconciling_with_something_else_reports_its_problems(folder: Path, shelf: Shelf) -> None:
    def fail() -> None:
        raise ValueError("unreadable")

    with Library.open(folder, create=True) as library:
        stays, gone = kept_of(library, shelf, "/a", "一"), document_label(library.absolute_folder, "/a", "old")
        shelf.add(gone)
        assert library.reconcile() == 0
        assert shelf.labels() == {stays, gone}
        assert library.reconcile([shelf]) == 1
        assert shelf.labels() == {stays}
        shelf.before = fail
        assert library.reconcile([shelf]) == 0
        assert "unreadable" in library.derived_problems[0].message.en


def test_one_library_has_one_name_and_a_moved_one_another(tmp_path: Path, folder: Path, shelf: Shelf) -> None:
    with Library.open(folder, create=True) as library:
        put(library, "/a", "一")
    (tmp_path / "link").symlink_to(folder)
    labels = set()
    for spelling in (folder, tmp_path / "link", tmp_path / "link" / ".." / "library"):
        with Library.open(spelling, readonly=True) as library:
            [passage] = library.passages("/a")
            labels.add(document_label(passage.library, passage.source, passage.sha256))
    [label] = labels
    shelf.add(label)
    folder.rename(tmp_path / "moved")
    with Library.open(tmp_path / "moved", derived=[shelf]) as library:
        library.remove_file("/a")
        assert shelf.labels() == {label}


KILLED = """
import os, signal, sys
from pathlib import Path
from chinese_alpaca_rag.library.store import Library
from tests.library.test_derived import Shelf
shelf = Shelf(Path(sys.argv[2]))
with Library.open(sys.argv[1], create=True, derived=[shelf]) as library:
    setattr(shelf, sys.argv[3], lambda: os.kill(os.getpid(), signal.SIGKILL))
    library.remove_file("/a")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_forgetting(folder: Path, shelf: Shelf, moment: str) -> None:
    with Library.open(folder, create=True) as library:
        first, second = kept_of(library, shelf, "/a", "一"), kept_of(library, shelf, "/b", "二")
    done = subprocess.run([sys.executable, "-c", KILLED, folder, shelf.folder, moment], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    with Library.open(folder, create=True, derived=[shelf]) as library:
        assert library.file("/a") is not None, "the change was never kept"
        assert shelf.labels() == ({first, second} if moment == "before" else {second})
        library.remove_file("/a")
        assert shelf.labels() == {second}


WRITER = """
import sys
from pathlib import Path
from chinese_alpaca_rag.library.store import Library
from tests.library.test_derived import Shelf, kept_of
shelf, generation = Shelf(Path(sys.argv[2])), int(sys.argv[3])
with Library.open(sys.argv[1], create=True, derived=[shelf]) as library:
    print("writing", flush=True)
    while True:
        for number in range(6):
            kept_of(library, shelf, f"/{number}", f"第{generation}代 第{number}号")
        library.remove_file("/0")
        library.move_file("/1", "/0", modified_ns=generation)
        generation += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_writer_killed_at_random_moments_leaves_nothing_of_what_is_gone(folder: Path, shelf: Shelf) -> None:
    generator = random.Random(20240229)
    kept = 0
    for generation in range(0, 5000, 1000):
        arguments = [sys.executable, "-c", WRITER, str(folder), str(shelf.folder), str(generation)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            time.sleep(generator.uniform(0.05, 0.3))
            writer.send_signal(signal.SIGKILL)
        for file in shelf.folder.glob("*"):
            if not file.read_text():
                file.unlink()  # the shelf's own half-written file is not what is looked at here
        with Library.open(folder, create=True, derived=[shelf]) as library:
            held = {(record.path, record.sha256) for record in library.files()}
            read = [read_label(label) for label in shelf.labels()]
            assert {label[1:] for label in read if label} <= held
            assert None not in read
            kept += len(read)
    assert kept > 0
