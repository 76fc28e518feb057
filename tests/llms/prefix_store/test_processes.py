"""Several processes with one store: nothing is mixed up, nothing computed twice, nothing outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chinese_alpaca_rag.llms.prefix_store import PrefixStore, claims
from chinese_alpaca_rag.llms.prefix_store.folder import partial_file, sweep
from chinese_alpaca_rag.llms.prefix_store.ledger import held_ledger
from tests.llms.prefix_store.samples import (
    FILE,
    ROOT,
    STATE,
    Block,
    everything,
    got,
    held,
    partial_files,
    path_of,
    prompt,
    put,
    put_all,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other processes are forked, or killed")

CLAIMANT = """
import sys
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import prompt
store = PrefixStore(Path(sys.argv[1]))
claims = {text: store.claim(prompt(text)[0].key) for text in sys.argv[2:]}
print(*["got" if claim else "refused" for claim in claims.values()], flush=True)
for line in sys.stdin:
    claims[line.strip()].release()
    print("released", flush=True)
"""
SHARER = """
import random, sys
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import STATE, got, prompt, put
store = PrefixStore(Path(sys.argv[1]), limit=int(sys.argv[2]))
generator = random.Random(int(sys.argv[3]))
hits = 0
for step in range(150):
    line = prompt("系统", *(f"{generator.randrange(4)}" for _ in range(3)))
    for block in line:
        if store.has(block.key) and got(store, block):
            hits += 1
        elif not put(store, block, size=generator.randrange(1, STATE)):
            break
    if step % 25 == 24:
        store.forget_documents(lambda label: label == "3")
    if step % 40 == 39:
        assert store.entries() is not None
print(hits)
"""


@pytest.fixture
def store(tmp_path: Path) -> PrefixStore:
    return PrefixStore(tmp_path / "prefixes")


@contextmanager
def other_process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_one_process_has_a_claim(store: PrefixStore) -> None:
    first, second, third = (prompt(text)[0].key for text in ("甲", "乙", "丙"))
    with other_process(CLAIMANT, store.folder, "甲", "乙") as other:
        assert said(other) == "got got"
        assert store.claim(first) is None
        assert store.claim(second) is None
        with store.claim(third) or pytest.fail("nobody has it"), other_process(CLAIMANT, store.folder, "丙") as late:
            assert said(late) == "refused"
        print("乙", file=other.stdin, flush=True)
        assert said(other) == "released"
        assert store.claim(first) is None
        again = store.claim(second)
        assert again is not None
        # That one here is released drops none of the others.
        more = store.claim(third)
        assert more is not None
        again.release()
        again.release()
        with other_process(CLAIMANT, store.folder, "甲", "乙", "丙") as late:
            assert said(late) == "refused got refused"
        more.release()
    # The process was killed.
    with store.claim(first) or pytest.fail("the claim outlived its process"):
        pass


def test_the_claims_of_a_killed_process_are_free(store: PrefixStore) -> None:
    key = prompt("甲")[0].key
    with other_process(CLAIMANT, store.folder, "甲") as other:
        assert said(other) == "got"
        assert store.claim(key) is None
        other.send_signal(signal.SIGKILL)
        other.wait()
        with store.claim(key) or pytest.fail("the claim outlived its process"):
            pass
    assert (store.folder / "claims").stat().st_size == 0


def test_one_thread_has_a_claim(store: PrefixStore) -> None:
    keys = [prompt(f"{number}")[0].key for number in range(300)]
    mine = [store.claim(key) for key in keys]
    assert None not in mine
    got_it: list[bool] = []
    other = PrefixStore(store.folder)
    thread = threading.Thread(target=lambda: got_it.extend(other.claim(key) is not None for key in keys))
    thread.start()
    thread.join()
    assert got_it == [False] * 300

    def release() -> None:
        for each in mine:
            if each is not None:
                each.release()

    releasing = threading.Thread(target=release)
    releasing.start()
    releasing.join()
    # No descriptor is left open.
    assert (store.folder / "claims").stat().st_ino not in [inode for _, inode in claims._files]
    for key in keys:
        with other.claim(key) or pytest.fail("it was released"):
            pass


def test_exactly_one_of_many_threads(tmp_path: Path) -> None:
    key = prompt("甲")[0].key
    for number in range(40):
        store = PrefixStore(tmp_path / f"{number}")
        start, taken = threading.Barrier(6), list[claims.Claim | None]()

        def work(
            start: threading.Barrier = start,
            taken: list[claims.Claim | None] = taken,
            store: PrefixStore = store,
        ) -> None:
            start.wait()
            taken.append(store.claim(key))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (one,) = [each for each in taken if each is not None]
        one.release()


def test_a_forked_child_has_none_of_its_parents_claims(store: PrefixStore) -> None:
    first, second = prompt("甲")[0].key, prompt("乙")[0].key
    mine = store.claim(first)
    assert mine is not None
    child = os.fork()
    if not child:
        mine.release()
        refused = store.claim(first) is None
        granted = store.claim(second) is not None
        os._exit(0 if refused and granted else 1)
    assert os.waitpid(child, 0)[1] == 0
    with other_process(CLAIMANT, store.folder, "甲") as other:
        assert said(other) == "refused"
    mine.release()


def test_where_nothing_can_be_kept_a_claim_binds_nobody(tmp_path: Path) -> None:
    (tmp_path / "prefixes").write_text("a file")
    store = PrefixStore(tmp_path / "prefixes")
    for _ in range(2):
        with store.claim(prompt("甲")[0].key) or pytest.fail("nobody can have it"):
            pass


def test_three_processes_write_read_and_remove_under_a_small_limit(store: PrefixStore) -> None:
    limit = 14 * FILE
    command = [sys.executable, "-c", SHARER, str(store.folder), str(limit)]
    running = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        for seed in range(3)
    ]
    most = 0
    while any(process.poll() is None for process in running):
        # Between two changes, for files come and go while they are counted.
        if store.folder.exists():
            with held_ledger(store.folder / "ledger", 20) as ledger:
                most = max(most, store.usage().bytes)
                assert ledger is not None
                assert ledger.bytes is None or ledger.bytes >= store.usage().bytes
        time.sleep(0.02)
    for process in running:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert int(output) > 20
    assert 0 < most <= limit
    limited = PrefixStore(store.folder, limit=limit)
    assert sum(size for _, size in everything(limited)) == limited.usage().bytes <= limit
    assert partial_files(store) == []
    # What the processes counted is what is there: there is room for exactly so much.
    limited.clear()
    put_all(limited, prompt(*(f"{number}" for number in range(14))))
    assert limited.usage().bytes == limit


def test_two_processes_write_the_same_block(store: PrefixStore) -> None:
    line = prompt("系统", "甲", "乙")
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            mine = PrefixStore(store.folder)
            os._exit(0 if all(put(mine, block) for block in line) else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert all(got(store, block) for block in line)
    limited = PrefixStore(store.folder, limit=4 * FILE)
    assert put(limited, prompt("别的")[0])
    assert held(limited, line) == [0, 1, 2]


def test_sweeping_spares_the_living(store: PrefixStore) -> None:
    assert put(store, prompt("系统")[0])
    folder = store.folder / "partial"
    program = f"""
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store.folder import partial_file
with partial_file(Path({str(folder)!r})) as file:
    file.write(b"x" * 1000)
    print("written", flush=True)
    input()
"""
    with other_process(program) as other, partial_file(folder) as mine:
        assert said(other) == "written"
        mine.write(b"y")
        sweep(folder)
        assert len(partial_files(store)) == 2
        other.kill()
        other.wait()
        sweep(folder)
        assert len(partial_files(store)) == 1
    assert partial_files(store) == []
    (folder / "left").write_bytes(bytes(STATE))
    (folder / "link").symlink_to("/etc/passwd")
    fresh = PrefixStore(store.folder)
    assert fresh.has(prompt("系统")[0].key)
    assert partial_files(store) == []


def test_a_forked_child_does_not_keep_the_store_busy(store: PrefixStore) -> None:
    assert put(store, prompt("系统")[0])
    reading, writing = os.pipe()
    with held_ledger(store.folder / "ledger", 0) as ledger:
        assert ledger is not None
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        with held_ledger(store.folder / "ledger", 0) as second:
            assert second is None
    block: Block = prompt("别的")[0]
    assert put(store, block)
    assert path_of(store, block).exists()
    os.close(writing)
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0
