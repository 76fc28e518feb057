"""A process killed at any moment leaves a store that opens, holds nothing wrong, and has grown by nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import FILE, ROOT, everything, got, held, partial_files, prompt, put_all

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

LIMIT = 12 << 20
WRITER = """
import random, sys
from pathlib import Path
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.prefix_store.samples import prompt, put
store = PrefixStore(Path(sys.argv[1]), limit=int(sys.argv[2]))
generator = random.Random(int(sys.argv[3]))
print("writing", flush=True)
while True:
    for block in prompt("系统", *(f"{generator.randrange(1000)}" for _ in range(3))):
        put(store, block, size=generator.randrange(1, 2 << 20))
"""
# What a process does to a disk, by the names that the store calls it by.
STEPS = ["open", "write", "fsync", "utime", "unlink", "mkdir", "replace", "chmod", "lseek", "rmdir"]


def check(folder: Path, limit: int) -> int:
    """The store is in order and within its limit, and takes something new; how many blocks it holds."""
    store = PrefixStore(folder, limit=limit)
    store.has(prompt("系统")[0].key)
    assert partial_files(store) == []
    blocks = list(everything(store))
    assert sum(size for _, size in blocks) == store.usage().bytes <= limit
    known = {key.digest for key, _ in blocks}
    # A block is never there without those before it.
    assert sum(entry.total_bytes == 0 for entry in store.entries()) == 0
    assert store.forget_documents(lambda _: False) == 0
    assert len(known) == store.usage().blocks
    return len(blocks)


def test_killed_at_thirty_random_moments(tmp_path: Path) -> None:
    generator = random.Random(20240229)
    folder, seen, partial = tmp_path / "prefixes", 0, 0
    for seed in range(30):
        command = [sys.executable, "-c", WRITER, str(folder), str(LIMIT), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            time.sleep(generator.uniform(0.0, 0.12))
            writer.send_signal(signal.SIGKILL)
        partial += len(partial_files(PrefixStore(folder)))
        seen += check(folder, LIMIT)
    assert seen > 0
    # Some were killed while they wrote: that is what this is about.
    assert partial > 0


class _Fate:
    """Kills the process at the step before which so many others have been taken."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def before(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def taken(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return taken


def _run(folder: Path, work: Callable[[PrefixStore], object], steps: int) -> bool:
    """Do ``work`` in a process that is killed after ``steps`` of its steps; whether it came to its end."""
    child = os.fork()
    if not child:
        try:
            fate = _Fate(steps)
            for name in STEPS:
                setattr(os, name, fate.before(getattr(os, name)))
            work(PrefixStore(folder, limit=4 * FILE))
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


@pytest.mark.parametrize("what", ["first", "evicting", "forgetting", "limiting"])
def test_killed_at_every_step(tmp_path: Path, what: str) -> None:
    old, new = prompt("系统", "甲", "乙"), prompt("系统", "丙", "丁")
    works: dict[str, Callable[[PrefixStore], object]] = {
        "first": lambda store: put_all(store, new),
        "evicting": lambda store: put_all(store, new),
        "forgetting": lambda store: store.forget_documents(lambda label: label == "甲"),
        "limiting": lambda store: store.set_limit(FILE),
    }
    for steps in range(1000):
        folder = tmp_path / f"{steps}"
        if what != "first":
            put_all(PrefixStore(folder), old)
        finished = _run(folder, works[what], steps)
        store = PrefixStore(folder, limit=4 * FILE)
        if what == "forgetting":
            # Once more, as whoever asked for it would: nothing of it is left.
            store.forget_documents(lambda label: label == "甲")
            assert held(store, old) == [0]
        check(folder, 4 * FILE)
        put_all(store, new)
        assert all(got(store, block) for block in new)
        assert check(folder, 4 * FILE) >= 3
        if finished:
            break
    assert finished and steps > 10
