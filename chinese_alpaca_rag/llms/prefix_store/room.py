"""Making room: the store stays below its limit, and the disk keeps some space for everyone else."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.prefix_store import problems
from chinese_alpaca_rag.llms.prefix_store.folder import StoreFolder, sweep
from chinese_alpaca_rag.llms.prefix_store.ledger import Ledger
from chinese_alpaca_rag.llms.prefix_store.problems import NotKeptError
from chinese_alpaca_rag.llms.prefix_store.tree import BlockFile, Files, ancestors, files_in, header_of, leaving

#: What is left free on the disk, whatever the limit is: so many bytes, or one part in so many of a smaller disk.
RESERVE: Final = 1 << 30
RESERVE_PART: Final = 50
# When the store is full, one block in so many goes beyond what is needed: looking at all of them takes a while.
_SPARE_PART: Final = 50


class Room:
    """Decides, with the ledger held, which blocks go so that others fit in."""

    def __init__(self, folder: StoreFolder, reserve: int | None) -> None:
        self._folder = folder
        self._reserve = reserve
        # Digests of the blocks before, which never change; reading them from all headers takes a while.
        self._parents: dict[bytes, bytes] = {}

    def note(self, digest: bytes, parent: bytes) -> None:
        """The block ``digest`` was seen to follow ``parent``."""
        self._parents[digest] = parent

    def count(self, ledger: Ledger) -> Files:
        """Count again what the store holds, clear what killed writers left, and write it into ``ledger``. OSError."""
        sweep(self._folder.partial)
        files = files_in(self._folder.blocks)
        ledger.bytes = sum(file.size for file in files.values())
        ledger.latest = max([ledger.latest, *(file.used for file in files.values())])
        ledger.save()
        return files

    def make(self, ledger: Ledger, size: int, limit: int, parent: bytes | None = None, *, on_disk: int = 0) -> None:
        """See that ``size`` more bytes fit in, ``on_disk`` of them on the disk as well; ``parent`` and above stay.

        NotKeptError where they cannot, and then nothing goes. OSError.
        """
        if size > limit:
            raise NotKeptError(problems.over_limit(self._folder.path, size, limit))
        if ledger.bytes is not None and self._missing(ledger.bytes, size, limit, on_disk) <= 0:
            return
        files = self.count(ledger)
        missing = self._missing(ledger.bytes or 0, size, limit, on_disk)
        if missing > 0:
            self._free(ledger, files, missing, parent, self._refusal(size, limit, on_disk))

    def _missing(self, held: int, size: int, limit: int, on_disk: int) -> int:
        """How many bytes have to go."""
        missing = held + size - limit
        if on_disk:
            missing = max(missing, on_disk - self._free_bytes())
        return missing

    def _free_bytes(self) -> int:
        usage = shutil.disk_usage(self._folder.path)
        reserve = min(RESERVE, usage.total // RESERVE_PART) if self._reserve is None else self._reserve
        return usage.free - reserve

    def _refusal(self, size: int, limit: int, on_disk: int) -> Words:
        if on_disk and on_disk > (free := self._free_bytes()):
            return problems.disk_full(self._folder.path, max(0, free), on_disk)
        return problems.over_limit(self._folder.path, size, limit)

    def _free(self, ledger: Ledger, files: Files, missing: int, parent: bytes | None, refusal: Words) -> None:
        self._learn(files)
        staying = ancestors(parent, self._parents)
        if sum(file.size for digest, file in files.items() if digest not in staying) < missing:
            raise NotKeptError(refusal)
        spare = len(files) // _SPARE_PART
        for file in leaving(files, self._parents, staying):
            if missing <= 0:
                if spare <= 0:
                    break
                spare -= 1
            with contextlib.suppress(OSError):
                remove_file(file)
                missing -= file.size
                ledger.bytes = max(0, (ledger.bytes or 0) - file.size)
        # Too much in the ledger is put right by the next count.
        with contextlib.suppress(OSError):
            ledger.save()

    def _learn(self, files: Files) -> None:
        """Read what the headers of ``files`` say of their parents, as far as it is not known."""
        known = {}
        for digest, file in files.items():
            parent = self._parents.get(digest)
            if parent is None and (header := header_of(file)) is not None:
                parent = header.parent
            if parent is not None:
                known[digest] = parent
        self._parents = known


def remove_file(file: BlockFile) -> None:
    """Remove it, and its folders if it was the last in them. With the ledger held. OSError where it stays."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file.path)  # noqa: PTH108 - a string: there are thousands
    folder = Path(file.path).parent
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def remove_for_good(files: Collection[BlockFile]) -> tuple[list[BlockFile], OSError | None]:
    """Remove ``files`` in their order and see that the disk has forgotten their names; those that are gone.

    What cannot be removed does not keep the others: the error is the last of them.
    """
    gone, failure = [], None
    for file in files:
        try:
            remove_file(file)
        except OSError as error:
            failure = error
        else:
            gone.append(file)
    # Where a folder has gone as well its name is forgotten with the one above it.
    parents = {Path(file.path).parent for file in gone}
    for folder in parents | {parent for each in parents for parent in each.parents[:2]}:
        wait_for_disk(folder)
    return gone, failure
