"""A disk that takes nothing more: what was kept stays, nothing is left of what was not, and the store says why."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import AlpacaRagError
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from chinese_alpaca_rag.llms.prefix_store.folder import PartialFile
from tests.llms.prefix_store.samples import FILE, ROOT, STATE, got, held, partial_files, prompt, put, put_all

SMALL_DISK = """
import os, sys
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import STATE, everything, got, held, partial_files, prompt, put, put_all
disk = Path(sys.argv[1])
store = PrefixStore(disk / "prefixes")
# The store gives way to itself: what was used least goes where the disk is the limit.
for number in range(200):
    assert put(store, prompt("系统", f"{number}")[1]) if number else put(store, prompt("系统")[0]), store.problem
usage = os.statvfs(disk)
assert usage.f_bavail * usage.f_frsize >= usage.f_blocks * usage.f_frsize // 50
blocks = store.usage().blocks
assert 50 < blocks < 200
# Somebody else fills the disk: there is nothing that the store could remove to make it fit.
store.set_limit(10 * (STATE + 4096))
line = prompt("系统", "199")
held_before = held(store, line)
with open(disk / "other", "wb") as other:
    try:
        while True:
            other.write(bytes(1 << 16))
            other.flush()
    except OSError:
        pass
big = prompt("很长")[0]
assert not put(store, big, size=10 * STATE)
print(store.problem.en)
assert partial_files(store) == []
assert held(store, line) == held_before and all(got(store, block) for block in line)
unchecked = PrefixStore(disk / "prefixes", reserve=-(1 << 40))
assert not put(unchecked, big, size=5 * STATE)
print(unchecked.problem.en)
assert partial_files(store) == []
assert held(store, line) == held_before and all(got(store, block) for block in line)
assert store.forget_documents(lambda label: label == "199") == 1
(disk / "other").unlink()
assert put(store, big)
list(everything(store))
"""


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    return PrefixStore(tmp_path / "prefixes")


def test_a_small_disk_that_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, str(disk)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:  # noqa: PLW1510
        pytest.skip("no disk can be mounted here")
    ended = subprocess.run(
        [*command, sys.executable, "-c", SMALL_DISK, str(disk)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("is full") == 2


def test_files_that_may_not_grow(store: PrefixStore) -> None:
    program = """
import resource, sys
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import got, partial_files, prompt, put
store = PrefixStore(Path(sys.argv[1]))
first, second = prompt("系统", "甲")
assert put(store, first)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
assert not put(store, second)
print(store.problem.en)
assert got(store, first) and partial_files(store) == []
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(store.folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "ulimit -f" in ended.stdout


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_whatever_the_system_refuses(store: PrefixStore, monkeypatch: pytest.MonkeyPatch, step: str, code: int) -> None:
    first, second = prompt("系统", "甲")
    assert put(store, first)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    if step == "replace":
        monkeypatch.setattr(PartialFile, "place", refuse)
    else:
        monkeypatch.setattr(os, step, refuse)
    assert not put(store, second)
    assert store.problem is not None
    assert str(store.folder) in store.problem.en and str(store.folder) in store.problem.zh
    monkeypatch.undo()
    assert partial_files(store) == []
    assert got(store, first) and held(store, [second]) == []
    assert put(store, second)
    assert store.problem is None


@pytest.mark.parametrize("place", ["a file", "below a file", "a dangling link", "below /proc"])
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    folder = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "prefixes",
        "a dangling link": tmp_path / "link",
        "below /proc": Path("/proc/prefixes"),
    }[place]
    store, block = PrefixStore(folder), prompt("系统")[0]
    assert not store.has(block.key)
    assert store.read(block.key, block.ids) is None
    assert not put(store, block)
    assert store.problem is not None and str(folder) in store.problem.en
    assert store.usage().blocks == 0 and store.entries() == []
    store.clear()
    assert store.forget_documents(lambda _: True) == 0
    with pytest.raises(AlpacaRagError) as raised:
        store.set_limit(5)
    assert str(folder) in str(raised.value)
    assert (tmp_path / "file").read_text() == "content"


def test_a_file_that_the_disk_cannot_read_any_more(store: PrefixStore, monkeypatch: pytest.MonkeyPatch) -> None:
    line = prompt("系统", "甲")
    put_all(store, line)
    for code, kept in ((errno.EMFILE, True), (errno.EIO, False)):

        def refuse(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("chinese_alpaca_rag.llms.prefix_store.store.read_state", refuse)
        assert store.read(line[1].key, line[1].ids) is None
        monkeypatch.undo()
        assert store.has(line[1].key) is kept
    assert put(store, line[1]) and got(store, line[1])


def test_a_folder_that_vanishes_is_not_made_again(store: PrefixStore) -> None:
    line = prompt("系统", "甲")
    put_all(store, line[:1])
    shutil.rmtree(store.folder)
    assert not put(store, line[0])
    assert store.problem is not None and "has gone" in store.problem.en
    assert store.read(line[0].key, line[0].ids) is None
    assert not store.folder.exists()
    assert put(PrefixStore(store.folder), line[0])
    assert put(store, line[1])


def test_what_stays_free_on_the_disk(store: PrefixStore) -> None:
    free = shutil.disk_usage(store.folder.parent).free
    greedy = PrefixStore(store.folder, reserve=2 * free)
    assert not put(greedy, prompt("系统")[0])
    assert greedy.problem is not None and "is full" in greedy.problem.en
    assert put(store, prompt("系统")[0])
    assert store.usage().bytes == FILE == STATE + 4096
