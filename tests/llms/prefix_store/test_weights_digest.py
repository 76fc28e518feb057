"""Any changed byte of the weights is another model; nothing is read twice without need."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import xxhash

from chinese_alpaca_rag.errors import CheckpointError
from chinese_alpaca_rag.llms.prefix_store import weights_digest, weights_memory
from chinese_alpaca_rag.llms.prefix_store.weights_memory import MOST_ROWS


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read, in order; all of them count as old enough to be remembered."""
    seen = list[Path]()
    whole = weights_memory._digest_of

    def reading(path: Path) -> bytes:
        seen.append(path)
        return whole(path)

    monkeypatch.setattr(weights_memory, "_digest_of", reading)
    monkeypatch.setattr(weights_memory, "_UNSETTLED", -1)
    return seen


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"model-{number}.safetensors" for number in (1, 2)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (9 << 20))
    return paths


def test_all_of_every_file_counts(files: list[Path], reads: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    digest = weights_digest(files, folder)
    assert len(digest) == 32 and int(digest, 16) >= 0
    seen = {digest}
    for place in (0, (9 << 20) - 1, 8 << 20):
        with files[1].open("r+b") as file:
            file.seek(place)
            file.write(b"\x07")
        seen.add(weights_digest(files, folder))
    files[1].write_bytes(files[1].read_bytes() + b"\x00")
    seen.add(weights_digest(files, folder))
    seen.add(weights_digest(files[::-1], folder))
    seen.add(weights_digest(files[:1], folder))
    assert len(seen) == 7


def test_the_digest_is_what_the_docstring_says(files: list[Path], tmp_path: Path) -> None:
    whole = xxhash.xxh3_128()
    for path in files:
        whole.update(path.stat().st_size.to_bytes(8, "little") + xxhash.xxh3_128_digest(path.read_bytes()))
    assert weights_digest(files, tmp_path / "prefixes") == whole.hexdigest()


def test_where_one_file_ends_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"ab")
    second.write_bytes(b"c")
    one = weights_digest([first, second], tmp_path / "prefixes")
    first.write_bytes(b"a")
    second.write_bytes(b"bc")
    assert weights_digest([first, second], tmp_path / "prefixes") != one


def test_a_file_that_stays_is_read_once(files: list[Path], reads: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    digest = weights_digest(files, folder)
    assert weights_digest(files, folder) == digest
    assert weights_digest([Path(os.path.relpath(path)) for path in files], folder) == digest
    assert len(reads) == 2
    # The same length and time, another content: the time of the change tells.
    status = files[0].stat()
    files[0].write_bytes(b"\x05" * status.st_size)
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert weights_digest(files, folder) != digest
    assert len(reads) == 3
    # A copy has another name and the same content.
    copy = files[1].with_name("copy.safetensors")
    copy.write_bytes(files[1].read_bytes())
    assert weights_digest([copy], folder) == weights_digest([files[1]], folder)
    assert len(reads) == 4


def test_a_file_that_has_just_changed_is_read_again(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    files[0].write_bytes(b"1")
    weights_digest(files[:1], folder)
    assert not (folder / "weights.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"version": 1, "rows": 5}', b'{"version": 2, "rows": []}',
     b'{"version": 1, "rows": [5, [], ["a", 1, 2, 3, 4, 5, "zz"], [1, 1, 1, 1, 1, 1, 1]]}'],
)  # fmt: skip
def test_a_damaged_memory_is_none(content: bytes, files: list[Path], reads: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    digest = weights_digest(files, folder)
    (folder / "weights.json").write_bytes(content)
    assert weights_digest(files, folder) == digest
    assert len(reads) == 4
    assert weights_digest(files, folder) == digest
    assert len(reads) == 4


def test_nothing_is_believed_of_a_folder_that_others_may_write_to(
    files: list[Path], reads: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "prefixes"
    digest = weights_digest(files, folder)
    memory = folder / "weights.json"
    content = json.loads(memory.read_text())
    content["rows"][0][-1] = "0" * 32
    memory.write_text(json.dumps(content))
    assert weights_digest(files, folder) != digest
    folder.chmod(0o777)
    assert weights_digest(files, folder) == digest


def test_the_memory_stays_small(reads: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "prefixes"
    paths = [tmp_path / f"{number}" for number in range(MOST_ROWS + 20)]
    for path in paths:
        path.write_bytes(path.name.encode())
    weights_digest(paths, folder)
    assert len(json.loads((folder / "weights.json").read_text())["rows"]) == MOST_ROWS
    weights_digest(paths[-5:], folder)
    assert len(reads) == len(paths)


def test_without_a_folder_to_write_to_it_is_only_slower(files: list[Path], reads: list[Path], tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_text("a file")
    assert weights_digest(files, tmp_path / "prefixes") == weights_digest(files, tmp_path / "other")
    assert len(reads) == 4
    assert (tmp_path / "prefixes").read_text() == "a file"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        weights_digest([tmp_path / "none.gguf"], tmp_path / "prefixes")
    assert "none.gguf" in str(raised.value)


def test_a_file_changed_while_it_is_read_is_not_remembered(
    files: list[Path], reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights_memory._digest_of

    def changing(path: Path) -> bytes:
        digest = whole(path)
        time.sleep(0.02)
        path.write_bytes(b"changed")
        return bytes(digest)

    monkeypatch.setattr(weights_memory, "_digest_of", changing)
    before = weights_digest(files[:1], tmp_path / "prefixes")
    monkeypatch.setattr(weights_memory, "_digest_of", whole)
    assert weights_digest(files[:1], tmp_path / "prefixes") != before
