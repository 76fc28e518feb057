"""``cache``: what is kept is listed, removed and limited; no state of the disk is met with a traceback."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chinese_alpaca_rag.cli.memory import in_bytes, parse_bytes
from chinese_alpaca_rag.labels import document_label
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms.prefix_store import PrefixStore, SpaceFacts, block_keys, space_of
from tests.cli.conftest import ROOT, Alpaca, put
from tests.toy_family import ToyCheckpoint

HANDBOOK = document_label("/kb", "/docs/员工手册.pdf", "1" * 64)
PRICES = document_label("/kb", "/docs/prices/价格表.xlsx", "2" * 64)
STATE = 50_000


@pytest.fixture
def folder(own_home: Path) -> Path:
    return own_home / ".cache/chinese-alpaca-rag/prefixes"


def keep(folder: Path, *blocks: str, model: str = "alpaca", kv_type: str = "f16", first_id: int = 7) -> None:
    """Keep a beginning of 100 tokens a block; each block is from the document of that label, or of none."""
    store = PrefixStore(folder)
    ids = [first_id + number for number in range(100 * len(blocks))]
    keys = block_keys(space_of({"model": model, "kv_type": kv_type}), ids, [100 * n for n in range(1, len(blocks) + 1)])
    about = SpaceFacts(model=model, format="gguf", kv_type=kv_type, window=4096, rope="plain")
    parent = None
    for key, label in zip(keys, blocks, strict=True):
        labels = [label] if label else []
        assert store.write(key, ids[key.start : key.end], bytes(STATE), parent=parent, about=about, labels=labels)
        parent = key


def test_nothing_is_kept_yet_and_nothing_is_made(alpaca: Alpaca, folder: Path) -> None:
    done = alpaca("cache", "list", "--json")
    assert (done.code, done.document) == (
        0,
        {"folder": str(folder), "bytes": 0, "limit": 20 << 30, "entries": []},
    )
    assert alpaca("cache", "list").out == "0 B of at most 20 GiB\n"
    assert alpaca("cache", "limit").out == "0 B of at most 20 GiB\n"
    assert alpaca("cache", "clear").out.startswith("There was nothing to remove.")
    assert alpaca("cache", "clear", language="zh").out.startswith("没有可删除的。")
    assert not folder.parent.exists()


def test_what_is_kept_is_listed(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, "", HANDBOOK, PRICES)
    keep(folder, "", "https://example.org/a\x1b[31m\nred", model="other-model", kv_type="q8_0")
    done = alpaca("cache", "list")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["model", "KV", "window", "tokens", "size", "last", "used", "documents"]
    other, own = lines[1], lines[2]
    size = PrefixStore(folder).entries()[1].bytes
    assert own.split()[:6] == ["alpaca", "f16", "4,096", "300", *in_bytes(size).split()]
    assert own.rstrip().endswith("/docs/员工手册.pdf, /docs/prices/价格表.xlsx")
    assert other.startswith("other-model")
    assert other.rstrip().endswith("https://example.org/a[31m red")
    assert lines[3].endswith("of at most 20 GiB")
    assert len(lines) == 4
    document = alpaca("cache", "list", "--json").document
    assert [entry["model"] for entry in document["entries"]] == ["other-model", "alpaca"]
    assert document["entries"][1]["documents"] == [
        {"path": "/docs/员工手册.pdf", "library": "/kb", "sha256": "1" * 64},
        {"path": "/docs/prices/价格表.xlsx", "library": "/kb", "sha256": "2" * 64},
    ]
    assert document["entries"][0]["documents"] == [{"path": "https://example.org/a\x1b[31m\nred"}]
    assert document["bytes"] == sum(entry["bytes"] for entry in document["entries"]) > 5 * STATE
    chinese = alpaca("cache", "list", language="zh").out
    for words in ("模型", "最近使用", "占用", "上限 20 GiB"):
        assert words in chinese


def test_many_documents_and_many_beginnings_are_cut_short(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, *(f"/docs/{number}.txt" for number in range(8)))
    for number in range(40):
        keep(folder, "", first_id=10_000 + number)
    done = alpaca("cache", "list", language="zh")
    assert len(done.out.splitlines()) == 1 + 30 + 2
    assert "另有 11 个" in done.out
    assert len(alpaca("cache", "list", "--json").document["entries"]) == 41
    assert alpaca("cache", "clear", "--model", "alpaca").code == 0
    keep(folder, *(f"/docs/{number}.txt" for number in range(8)))
    assert "/docs/0.txt, /docs/1.txt, /docs/2.txt, 5 more\n" in alpaca("cache", "list").out


def test_all_of_it_is_cleared(alpaca: Alpaca, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(folder, HANDBOOK)
    keep(folder, HANDBOOK, model="other-model")
    monkeypatch.setenv("ALPACA_RAG_MODEL", "alpaca")  # set for good, it says nothing about what to remove
    done = alpaca("cache", "clear", "--json")
    assert done.code == 0
    assert done.document["removed"] > 2 * STATE
    assert (done.document["bytes"], PrefixStore(folder).usage().blocks) == (0, 0)


def test_what_stood_in_earlier_prompts_goes_with_them(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, "", HANDBOOK)
    packings = folder.parent / "packings"
    packings.mkdir()
    (packings / "of-a-library.json").write_text("[]", encoding="utf-8")
    assert alpaca("cache", "clear", "--document", "/docs/员工手册.pdf").code == 0
    assert not packings.exists()


def test_one_models_is_cleared(alpaca: Alpaca, folder: Path, toys: ToyCheckpoint) -> None:
    from chinese_alpaca_rag.family.checkpoint import read_checkpoint

    keep(folder, "", model="alpaca")
    keep(folder, "", model=read_checkpoint(toys.gguf).name)
    keep(folder, "", model="chinese-alpaca-2-7b-16k")
    third = PrefixStore(folder).usage().bytes // 3
    assert alpaca("cache", "clear", "--model", toys.gguf).out.startswith(f"{in_bytes(third)} removed.")
    assert models_kept(folder) == {"alpaca", "chinese-alpaca-2-7b-16k"}
    assert alpaca("cache", "clear", "--model", "hfl/chinese-alpaca-2-7b-16k").code == 0
    assert models_kept(folder) == {"alpaca"}
    unknown = alpaca("cache", "clear", "--model", "alpacca", "--json")
    assert (unknown.code, unknown.error["type"]) == (2, "UnknownModelError")
    assert models_kept(folder) == {"alpaca"}
    assert "There was nothing to remove." in alpaca("cache", "clear", "--model", "chinese-alpaca-2-7b").out
    assert alpaca("--model", "alpaca", "cache", "clear").code == 0
    assert models_kept(folder) == set()


def models_kept(folder: Path) -> set[str]:
    return {entry.model for entry in PrefixStore(folder).entries()}


def test_what_is_from_a_document_is_cleared_with_all_behind_it(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, "", HANDBOOK, PRICES)
    assert alpaca("cache", "clear", "--document", "/docs/prices/nothing.txt").out.startswith("There was nothing")
    assert alpaca("cache", "clear", "--document", "/docs/price").out.startswith("There was nothing")
    assert alpaca("cache", "clear", "--document", "/docs/./prices/../员工手册.pdf").code == 0
    [entry] = PrefixStore(folder).entries()
    assert (entry.tokens, entry.labels) == (100, ())


def test_a_folder_of_documents_need_not_be_there_any_more(
    alpaca: Alpaca, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(folder, "", str(tmp_path / "gone/deep/a.txt"), PRICES)
    two_thirds = PrefixStore(folder).usage().bytes * 2 // 3
    assert alpaca("cache", "clear", "--document", "gone").out.startswith(f"{in_bytes(two_thirds)} removed.")
    keep(folder, "https://example.org/page")
    assert alpaca("cache", "clear", "-d", "https://example.org/page").code == 0
    [entry] = PrefixStore(folder).entries()
    assert entry.tokens == 100


def test_model_and_document_together_are_refused(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, HANDBOOK)
    done = alpaca("cache", "clear", "--model", "alpaca", "--document", "/docs", "--json")
    assert (done.code, done.error["type"]) == (2, "WrongUsageError")
    assert PrefixStore(folder).usage().blocks == 1


@pytest.mark.parametrize(
    ("size", "limit"),
    [("20G", 20 << 30), ("500M", 500 << 20), ("1.5 GiB", 3 << 29), ("2,000,000", 2_000_000), ("0", 0)],
)
def test_the_limit_is_set_and_kept(alpaca: Alpaca, folder: Path, size: str, limit: int) -> None:
    done = alpaca("cache", "limit", size, "--json")
    assert (done.code, done.document) == (0, {"folder": str(folder), "bytes": 0, "limit": limit})
    assert PrefixStore(folder).limit == limit
    assert alpaca("cache", "limit", "--json").document["limit"] == limit


def test_what_is_above_a_new_limit_goes(alpaca: Alpaca, folder: Path) -> None:
    for number in range(40):
        keep(folder, "", first_id=10_000 + number)
    done = alpaca("cache", "limit", "1M", "--json")
    assert 500_000 < done.document["bytes"] <= 1 << 20
    done = alpaca("cache", "limit", "0")
    assert done.out == "0 B, limit 0 (nothing is kept)\n"
    assert alpaca("cache", "list", language="zh").out == "占用 0 B，上限 0（不保留）\n"


@pytest.mark.parametrize(
    "size", ["20", "-1", "many", "", "1.2.3G", "20 apples", "9" * 15 + "T", "1e9", "٣G", "inf", "\x1b"]
)
def test_a_limit_that_cannot_be_meant_is_refused(alpaca: Alpaca, folder: Path, size: str) -> None:
    for language in ("zh", "en"):
        done = alpaca("cache", "limit", "--", size, language=language)
        assert (done.code, done.out) == (2, "")
        assert "20G" in done.err
        assert "\x1b" not in done.err
    assert not folder.exists()


@pytest.mark.parametrize("count", [0, 512, 20 << 30, 500 << 20, 3 << 29, 1 << 40])
def test_a_size_is_read_back_as_it_is_written(count: int) -> None:
    assert parse_bytes(in_bytes(count)) == count


def test_a_folder_that_cannot_be_used_is_named(alpaca: Alpaca, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    for command in (["list"], ["clear"], ["limit"], ["limit", "1G"], ["list", "--json"]):
        done = alpaca("cache", *command)
        assert done.code == 1, command
        assert str(folder) in done.out + done.err
        assert "another folder" in done.out + done.err
    assert folder.read_text() == "in the way"


def test_a_folder_that_cannot_be_made_is_named(alpaca: Alpaca, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALPACA_RAG_CACHE", str(tmp_path / "file/deeper"))
    assert alpaca("cache", "list").code == 0
    done = alpaca("cache", "limit", "1G")
    assert done.code == 1
    assert str(tmp_path / "file/deeper/prefixes") in done.err


def test_damaged_files_are_no_obstacle(alpaca: Alpaca, folder: Path) -> None:
    keep(folder, "", HANDBOOK)
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff\x00rubbish" * 3)
    assert alpaca("cache", "list").code == 0
    assert alpaca("cache", "limit").code == 0
    assert alpaca("cache", "clear").code == 0
    assert PrefixStore(folder).usage().blocks == 0


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    place = tmp_path / "documents"
    place.mkdir()
    (place / "年假.txt").write_text("工作满一年的员工每年享有五天年假。", encoding="utf-8")
    (place / "差旅.txt").write_text("出差住宿费每晚最多报销五百元。", encoding="utf-8")
    return place


def label_in(library: Path, file: Path) -> str:
    return document_label(str(library), str(file), hashlib.sha256(file.read_bytes()).hexdigest())


def labels_kept(folder: Path) -> set[str]:
    return {label for entry in PrefixStore(folder).entries() for label in entry.labels}


def test_a_document_that_leaves_the_library_takes_its_prefixes_along(
    alpaca: Alpaca, folder: Path, documents: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    ingest = ("ingest", documents, "--library", library, "--prune", "--json")
    assert alpaca(*ingest).code == 0
    assert not folder.exists()
    leave, travel = label_in(library, documents / "年假.txt"), label_in(library, documents / "差旅.txt")
    keep(folder, "", travel, leave)
    keep(folder, "", leave, HANDBOOK, first_id=2000)
    assert alpaca(*ingest).code == 0
    assert labels_kept(folder) == {travel, leave, HANDBOOK}
    (documents / "年假.txt").unlink()
    assert alpaca(*ingest).code == 0
    assert labels_kept(folder) == {travel}
    (documents / "差旅.txt").write_text("出差住宿费每晚最多报销六百元。", encoding="utf-8")
    assert alpaca(*ingest).code == 0
    assert labels_kept(folder) == set()
    assert PrefixStore(folder).usage().blocks == 2, "what is from no document stays"


def test_a_program_gives_the_store_to_the_library_itself(folder: Path, tmp_path: Path) -> None:
    with Library.open(tmp_path / "library", create=True, derived=[PrefixStore(folder)]) as library:
        put(library, "/docs/员工手册.pdf", ["工作满一年的员工每年享有五天年假。"], kind="page")
        [passage] = library.passages("/docs/员工手册.pdf")
        label = passage_document(passage).metadata["document"]
        keep(folder, "", label)
        assert labels_kept(folder) == {label}
        library.remove_file("/docs/员工手册.pdf")
        assert labels_kept(folder) == set()
        keep(folder, "", label)  # by a program that read the file before it went, and says nothing of when
    with Library.open(tmp_path / "library", create=True, derived=[PrefixStore(folder)]) as library:
        assert labels_kept(folder) == set()
        assert library.derived_problems == ()


def test_what_could_not_be_removed_fails_the_run_and_not_the_library(
    alpaca: Alpaca, folder: Path, documents: Path, tmp_path: Path
) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    ingest = ("ingest", documents, "--library", tmp_path / "library", "--prune")
    done = alpaca(*ingest)
    assert done.code == 1
    assert "2 files (added 2)" in done.out
    assert str(folder) in done.err
    assert "alpaca-rag cache clear" in done.err
    (documents / "年假.txt").unlink()
    done = alpaca(*ingest, "--json")
    assert (done.code, [file["status"] for file in done.document["files"]]) == (1, ["unchanged", "removed"])
    assert str(folder) in done.document["problems"][0]


KILLED = """
import os, signal, sys
from chinese_alpaca_rag.cli.run import run
from chinese_alpaca_rag.library.documents import passage_document
from chinese_alpaca_rag.library.store import Library
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
forget, asked = PrefixStore.forget_documents, []
def forget_and_die(store, wanted_gone):
    asked.append(store)
    if sys.argv[1] == "after" or len(asked) == 1:  # the first time is when the library is opened
        forget(store, wanted_gone)
    if len(asked) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
PrefixStore.forget_documents = forget_and_die
run(sys.argv[2:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_a_document_is_taken_out(
    alpaca: Alpaca, folder: Path, documents: Path, tmp_path: Path, moment: str
) -> None:
    library = tmp_path / "library"
    ingest = ("ingest", str(documents), "--library", str(library), "--prune", "--json")
    assert alpaca(*ingest).code == 0
    leave, travel = label_in(library, documents / "年假.txt"), label_in(library, documents / "差旅.txt")
    keep(folder, "", travel, leave)
    (documents / "年假.txt").unlink()
    done = subprocess.run([sys.executable, "-c", KILLED, moment, *ingest], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert labels_kept(folder) == ({travel, leave} if moment == "before" else {travel})
    assert len(alpaca("sources", "--library", library, "--json").document["files"]) == 2
    assert alpaca(*ingest).code == 0
    assert labels_kept(folder) == {travel}


def test_ingesting_imports_nothing_of_models_where_nothing_is_kept(documents: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from chinese_alpaca_rag.cli.run import run\n"
        "assert run(['ingest', sys.argv[1], '--library', sys.argv[2], '--prune', '--json']) == 0\n"
        "print(sorted(name for name in sys.modules if name.startswith('chinese_alpaca_rag.llms')), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, str(documents), str(tmp_path / "library")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.strip().endswith("[]")


def test_switched_off_it_is_still_listed(alpaca: Alpaca, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(folder, HANDBOOK)
    monkeypatch.setenv("ALPACA_RAG_PREFIXES", "false")
    done = alpaca("cache", "list")
    assert "员工手册.pdf" in done.out
    assert "Not in use (ALPACA_RAG_PREFIXES)." in done.err
    assert "Not in use (--no-cache)." in alpaca("cache", "list", "--no-cache").err


def test_the_group_shows_its_commands(alpaca: Alpaca) -> None:
    done = alpaca("cache")
    assert (done.code, done.out) == (2, "")
    for command in ("list", "clear", "limit"):
        assert command in done.err


def test_nothing_heavy_is_imported(folder: Path) -> None:
    keep(folder, HANDBOOK)
    program = (
        "import sys\n"
        "from chinese_alpaca_rag.cli.run import run\n"
        "for arguments in (['list', '--json'], ['limit'], ['clear']): assert run(['cache', *arguments]) == 0\n"
        "heavy = {'torch', 'transformers', 'llama_cpp', 'numpy', 'langchain_core', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.strip().endswith("[]")
