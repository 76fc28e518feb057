from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import DocumentRefusedError, NoDocumentsError, WrongUsageError
from chinese_alpaca_rag.ingest import pipeline, reading
from chinese_alpaca_rag.ingest.documents import DocumentFileLoader, load_documents
from chinese_alpaca_rag.ingest.parsers import PARSERS
from chinese_alpaca_rag.ingest.pipeline import FileOutcome, find_documents, ingest_paths
from chinese_alpaca_rag.library.store import Library
from tests.ingest.office_files import lines, pdf_file, picture
from tests.ingest.texts import SIMPLIFIED, TRADITIONAL


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", create=True) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files that can be read, written long ago."""
    place = tmp_path / "docs"
    (place / "sub").mkdir(parents=True)
    write(place / "a.txt", SIMPLIFIED[0].encode("gb18030"))
    write(place / "b.md", f"# 差旅\n\n{SIMPLIFIED[1]}".encode())
    write(place / "sub" / "c.txt", TRADITIONAL[0].encode("big5"))
    return place


def write(path: Path, data: bytes, *, age: int = 1000) -> Path:
    path.write_bytes(data)
    then = path.stat().st_mtime_ns - age * 10**9
    os.utime(path, ns=(then, then))
    return path


def statuses(outcomes: list[FileOutcome]) -> dict[str, str]:
    return {Path(outcome.path).name: outcome.status for outcome in outcomes}


def test_first_and_second_run(folder: Path, library: Library) -> None:
    first = ingest_paths([folder], library)
    assert [(Path(one.path).name, one.status, one.encoding, one.pages, one.passages) for one in first] == [
        ("a.txt", "added", "gb18030", 1, 1),
        ("b.md", "added", "utf-8", 1, 1),
        ("c.txt", "added", "big5", 1, 1),
    ]
    assert all(Path(one.path).is_absolute() for one in first)
    assert library.page_text(first[0].path, 1) == SIMPLIFIED[0]
    second = ingest_paths([folder], library)
    assert set(statuses(second).values()) == {"unchanged"}
    assert [one.passages for one in second] == [one.passages for one in first]


def test_an_unchanged_file_is_not_even_opened(folder: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_paths([folder], library)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert set(statuses(ingest_paths([folder], library)).values()) == {"unchanged"}


def test_a_touched_file_is_compared_by_content(folder: Path, library: Library) -> None:
    ingest_paths([folder], library)
    os.utime(folder / "a.txt")
    assert statuses(ingest_paths([folder / "a.txt"], library)) == {"a.txt": "unchanged"}


def test_a_change_that_keeps_size_and_time_of_a_fresh_file_is_seen(folder: Path, library: Library) -> None:
    path = write(folder / "fresh.txt", "内容甲。".encode(), age=0)
    ingest_paths([path], library)
    time = path.stat().st_mtime_ns
    path.write_bytes("内容乙。".encode())
    os.utime(path, ns=(time, time))
    assert statuses(ingest_paths([path], library)) == {"fresh.txt": "updated"}
    assert library.page_text(str(path), 1) == "内容乙。"


def test_changed_moved_and_removed_files(folder: Path, library: Library) -> None:
    ingest_paths([folder], library)
    write(folder / "a.txt", "新的内容。".encode())
    (folder / "b.md").rename(folder / "sub" / "moved.md")
    (folder / "sub" / "c.txt").unlink()
    outcomes = ingest_paths([folder], library, prune=True)
    assert statuses(outcomes) == {"a.txt": "updated", "moved.md": "moved", "c.txt": "removed"}
    assert [Path(record.path).name for record in library.files()] == ["a.txt", "moved.md"]
    assert library.page_text(str(folder / "a.txt"), 1) == "新的内容。"


def test_without_prune_vanished_files_stay(folder: Path, library: Library) -> None:
    ingest_paths([folder], library)
    (folder / "a.txt").unlink()
    ingest_paths([folder], library)
    assert len(library.files()) == 3


def test_prune_takes_nothing_out_of_other_folders(folder: Path, tmp_path: Path, library: Library) -> None:
    other = tmp_path / "docs2"
    other.mkdir()
    write(other / "x.txt", "别处的文件。".encode())
    ingest_paths([folder, other], library)
    (other / "x.txt").unlink()
    (folder / "a.txt").unlink()
    assert statuses(ingest_paths([folder], library, prune=True))["a.txt"] == "removed"
    assert library.file(str(other / "x.txt")) is not None


def test_prune_of_more_files_than_go_at_once(tmp_path: Path, library: Library) -> None:
    place = tmp_path / "many"
    place.mkdir()
    for number in range(205):
        write(place / f"{number}.txt", f"第{number}份资料。".encode())
    ingest_paths([place], library)
    for number in range(203):
        (place / f"{number}.txt").unlink()
    seen: list[tuple[int, int]] = []
    outcomes = ingest_paths([place], library, prune=True, on_outcome=lambda _, done, total: seen.append((done, total)))
    assert [outcome.status for outcome in outcomes].count("removed") == 203
    assert seen == [(number, 205) for number in range(1, 206)]
    assert sorted(Path(record.path).name for record in library.files()) == ["203.txt", "204.txt"]


def test_prune_of_an_emptied_folder(folder: Path, library: Library) -> None:
    ingest_paths([folder / "sub"], library)
    (folder / "sub" / "c.txt").unlink()
    assert statuses(ingest_paths([folder / "sub"], library, prune=True)) == {"c.txt": "removed"}
    assert library.files() == []


def test_copies_are_stored_once(folder: Path, library: Library) -> None:
    copy = write(folder / "copy.txt", (folder / "a.txt").read_bytes())
    before = statuses(ingest_paths([folder], library))
    assert before == {"a.txt": "added", "b.md": "added", "c.txt": "added", "copy.txt": "duplicate"}
    assert len(library.files()) == 3
    assert set(statuses(ingest_paths([folder], library)).values()) == {"unchanged"}
    assert set(statuses(ingest_paths([folder], library, prune=True, tags=["x"])).values()) == {"unchanged"}
    assert all(record.tags == ("x",) for record in library.files())
    (folder / "a.txt").unlink()
    assert statuses(ingest_paths([folder], library, prune=True))["a.txt"] == "removed"
    record = library.file(str(copy))
    assert record is not None
    assert record.copies == ()
    copy.unlink()
    assert statuses(ingest_paths([folder], library, prune=True))["copy.txt"] == "removed"
    assert library.search("年假") == [] or all("copy" not in one.source for one, _ in library.search("年假"))


def test_a_copy_that_changes_and_an_original_that_changes(folder: Path, library: Library) -> None:
    copy = write(folder / "copy.txt", (folder / "a.txt").read_bytes())
    ingest_paths([folder], library)
    write(copy, SIMPLIFIED[2].encode())
    assert statuses(ingest_paths([folder], library))["copy.txt"] == "added"
    write(copy, (folder / "a.txt").read_bytes())
    assert statuses(ingest_paths([folder], library))["copy.txt"] == "duplicate"
    write(folder / "a.txt", SIMPLIFIED[1].encode())
    ingest_paths([folder], library)
    assert library.page_text(str(copy), 1) == SIMPLIFIED[0]
    assert library.page_text(str(folder / "a.txt"), 1) == SIMPLIFIED[1]


def test_the_same_bytes_under_another_format_are_another_file(folder: Path, library: Library) -> None:
    write(folder / "b.txt", (folder / "b.md").read_bytes())
    assert statuses(ingest_paths([folder], library))["b.txt"] == "added"


def test_outcomes_come_in_the_order_of_the_files(tmp_path: Path, library: Library) -> None:
    for number in range(20):
        page = "<p>" + f"第{number}页讲年假。" * (4000 if number % 7 == 0 else 1)
        write(tmp_path / f"{number:02}.html", page.encode())
    seen: list[str] = []
    outcomes = ingest_paths(
        [tmp_path / f"{number:02}.html" for number in range(20)],
        library,
        workers=3,
        on_outcome=lambda outcome, _number, _total: seen.append(Path(outcome.path).stem),
    )
    assert seen == [f"{number:02}" for number in range(20)]
    assert {outcome.status for outcome in outcomes} == {"added"}


def test_ctrl_c_does_not_wait_for_files_that_are_being_read(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.txt", SIMPLIFIED[0].encode())
    write(tmp_path / "b.html", ("<p>很长的一页。</p>" * 3_000_000).encode())

    def stop(outcome: FileOutcome, _number: int, _total: int) -> None:
        raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        ingest_paths([tmp_path / "a.txt", tmp_path / "b.html"], library, workers=2, on_outcome=stop)
    assert threading.active_count() == threads
    assert [Path(record.path).name for record in library.files()] == ["a.txt"]


def test_refusals_are_outcomes_and_keep_what_was_there(folder: Path, library: Library) -> None:
    ingest_paths([folder], library)
    write(folder / "a.txt", bytes(range(256)))
    write(folder / "photo.png", b"\x89PNG")
    write(folder / "old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512))
    outcomes = {Path(one.path).name: one for one in ingest_paths([folder], library)}
    assert {name: one.status for name, one in outcomes.items()} == {
        "a.txt": "refused",
        "b.md": "unchanged",
        "c.txt": "unchanged",
        "old.doc": "refused",
        "photo.png": "refused",
    }
    assert "Word 97-2003" in outcomes["old.doc"].reason
    assert "library" in outcomes["a.txt"].reason or "知识库" in outcomes["a.txt"].reason
    assert library.page_text(str(folder / "a.txt"), 1) == SIMPLIFIED[0]


def test_a_partial_file_says_what_is_missing_now_and_later(
    folder: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reading, pipeline):
        monkeypatch.setattr(module, "can_recognise", lambda: False)
    write(folder / "scan.pdf", pdf_file([lines("第一页。"), picture]))
    outcome = next(one for one in ingest_paths([folder], library) if one.path.endswith("scan.pdf"))
    assert (outcome.status, outcome.pages, outcome.passages) == ("partial", 2, 1)
    assert "OCR" in outcome.reason
    again = next(one for one in ingest_paths([folder], library) if one.path.endswith("scan.pdf"))
    assert (again.status, again.reason) == ("unchanged", outcome.reason)


def test_a_better_parser_reads_again(folder: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_paths([folder], library)
    monkeypatch.setattr(pipeline, "PARSERS", {**PARSERS, "text": replace(PARSERS["text"], version=99)})
    assert statuses(ingest_paths([folder], library)) == {"a.txt": "updated", "b.md": "unchanged", "c.txt": "updated"}
    assert statuses(ingest_paths([folder], library)) == {
        "a.txt": "unchanged",
        "b.md": "unchanged",
        "c.txt": "unchanged",
    }


def test_an_encoding_is_followed_and_reads_again(folder: Path, library: Library) -> None:
    path = write(folder / "short.txt", "援".encode("big5"))
    ingest_paths([path], library)
    assert statuses(ingest_paths([path], library, encoding="big5")) == {"short.txt": "updated"}
    assert library.page_text(str(path), 1) == "援"
    assert statuses(ingest_paths([path], library, encoding="big5")) == {"short.txt": "unchanged"}
    assert statuses(ingest_paths([path], library)) == {"short.txt": "unchanged"}
    with pytest.raises(WrongUsageError):
        ingest_paths([path], library, encoding="nonsense")


def test_progress_and_interruption_keep_what_is_done(folder: Path, library: Library) -> None:
    seen: list[tuple[str, int, int]] = []

    def stop_at_the_second(outcome: FileOutcome, done: int, total: int) -> None:
        seen.append((Path(outcome.path).name, done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_paths([folder], library, on_outcome=stop_at_the_second)
    assert seen == [("a.txt", 1, 3), ("b.md", 2, 3)]
    assert len(library.files()) == 2
    assert statuses(ingest_paths([folder], library)) == {"a.txt": "unchanged", "b.md": "unchanged", "c.txt": "added"}


def test_the_child_ends_with_the_run(folder: Path, library: Library) -> None:
    write(folder / "page.html", "<p>网页。</p>".encode())
    before = threading.active_count()
    ingest_paths([folder], library)
    assert threading.active_count() == before


def test_which_files_a_folder_means(folder: Path) -> None:
    for name in (".hidden.txt", "~$b.docx", "download.pdf.part", "Thumbs.db", ".~lock.b.docx#"):
        write(folder / name, b"x")
    (folder / ".git").mkdir()
    write(folder / ".git" / "d.txt", b"x")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "again.txt").symlink_to(folder / "a.txt")
    found = find_documents([folder, folder / "sub", folder / "a.txt"])
    assert [path.relative_to(folder).as_posix() for path in found] == ["a.txt", "b.md", "sub/c.txt"]


def test_relative_paths_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "sub")
    assert find_documents([Path("../a.txt"), Path()]) == [folder / "a.txt", folder / "sub" / "c.txt"]


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(NoDocumentsError, match="missing"):
        find_documents([tmp_path / "missing"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NoDocumentsError) as caught:
        find_documents([empty])
    assert ".docx" in caught.value.hint.en
    write(empty / "photo.png", b"x")
    with pytest.raises(NoDocumentsError):
        find_documents([empty])
    assert find_documents([empty / "photo.png"]) == [empty / "photo.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_reported(folder: Path, library: Library) -> None:
    (folder / "sub").chmod(0)
    try:
        assert statuses(ingest_paths([folder], library))["sub"] == "refused"
    finally:
        (folder / "sub").chmod(0o700)


def test_documents_for_langchain_without_a_library(folder: Path, library: Library) -> None:
    path = folder / "b.md"
    ingest_paths([path], library)
    loaded = load_documents(path)
    assert [one.page_content for one in loaded] == [one.text for one in library.passages(str(path))]
    metadata = loaded[0].metadata
    assert (metadata["source"], metadata["title"], metadata["page"], metadata["position"]) == (str(path), "差旅", 1, 0)
    assert (metadata["heading"], metadata["passage_id"]) == ("差旅", 0)


def test_the_loader_goes_through_folders(folder: Path) -> None:
    assert len(DocumentFileLoader(folder).load()) == 3
    write(folder / "bad.pdf", b"%PDF-1.4 bad")
    with pytest.raises(DocumentRefusedError):
        DocumentFileLoader([folder]).load()
    refused: list[str] = []
    loader = DocumentFileLoader(folder, on_refused=lambda path, error: refused.append(path.name))
    assert len(loader.load()) == 3
    assert refused == ["bad.pdf"]


def test_the_version_of_every_format_is_noted(folder: Path, library: Library) -> None:
    ingest_paths([folder], library)
    record = library.file(str(folder / "a.txt"))
    assert record is not None
    assert record.parser == pipeline.parser_version("text")


def test_a_library_inside_the_folder_that_it_is_made_from_is_no_document(tmp_path: Path) -> None:
    (tmp_path / "通知.txt").write_text("今天下午三点开会。", encoding="utf-8")
    with Library.open(tmp_path / "library", create=True) as library:
        for _ in range(2):
            outcomes = ingest_paths([tmp_path], library)
            assert [Path(outcome.path).name for outcome in outcomes] == ["通知.txt"]


def test_a_file_that_keeps_changing_is_refused_and_read_once_it_rests(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_READING_PAUSE", 0.0)
    file = write(tmp_path / "log.txt", SIMPLIFIED[0].encode())
    real, growing = os.fstat, True

    def fstat(descriptor: int) -> os.stat_result:
        if growing and os.path.samestat(real(descriptor), real(appending.fileno())):
            appending.write("又一行。")
            appending.flush()
        return real(descriptor)

    with file.open("a", encoding="utf-8") as appending:
        monkeypatch.setattr(os, "fstat", fstat)
        [outcome] = ingest_paths([file], library)
        assert outcome.status == "refused"
        assert "changing" in outcome.reason or "改写" in outcome.reason
        assert library.file(str(file)) is None
        growing = False
    assert statuses(ingest_paths([file], library)) == {"log.txt": "added"}
    assert library.page_text(str(file), 1) == file.read_text(encoding="utf-8")


def test_a_password_opens_a_file(tmp_path: Path, library: Library) -> None:
    file = write(tmp_path / "locked.pdf", pdf_file([lines("秘密的内容。")], encrypt="key"))
    [outcome] = ingest_paths([file], library)
    assert outcome.status == "refused"
    assert "--password" in outcome.reason
    assert ingest_paths([file], library, password="wrong")[0].status == "refused"
    assert ingest_paths([file], library, password="key")[0].status == "added"


def test_what_a_killed_run_left_to_erase_is_erased_by_the_next(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "secret.txt", "绝密代号 xyzzyplugh，员工年休假为五天。".encode())
    write(tmp_path / "other.txt", ("其他文件的内容。" * 50).encode())
    ingest_paths([tmp_path], library)
    (tmp_path / "secret.txt").unlink()
    with monkeypatch.context() as killed:
        killed.setattr(pipeline, "erase_deleted", lambda _library: None)
        ingest_paths([tmp_path], library, prune=True)
    assert set(statuses(ingest_paths([tmp_path], library)).values()) == {"unchanged"}
    held = b"".join(path.read_bytes() for path in (tmp_path / "library").iterdir())
    assert b"xyzzyplugh" not in held
    assert "绝密".encode() not in held


def test_a_loader_splits_by_tokens_and_opens_with_a_password(tmp_path: Path) -> None:
    file = write(tmp_path / "locked.pdf", pdf_file([lines("秘密的内容。", "另一句秘密的话。")], encrypt="key"))
    documents = DocumentFileLoader(file, password="key", size=10, length=lambda text: len(text.encode())).load()
    assert all(len(document.page_content.encode()) <= 10 for document in documents)
    assert "".join(document.page_content for document in documents).startswith("秘密的内容")
