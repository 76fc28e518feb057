"""The store of keys and values: blocks on disk, for every process of one user."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.durability import wait_for_disk
from chinese_alpaca_rag.errors import AlpacaRagError, WrongUsageError
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.prefix_store import problems
from chinese_alpaca_rag.llms.prefix_store.block_file import (
    MOST_HEADER,
    MOST_STATE,
    BlockHeader,
    DamagedBlockError,
    check,
    opened,
    read_header,
    read_state,
    written_header,
)
from chinese_alpaca_rag.llms.prefix_store.claims import Claim, claim
from chinese_alpaca_rag.llms.prefix_store.facts import PrefixEntry, SpaceFacts, StoreUsage
from chinese_alpaca_rag.llms.prefix_store.folder import (
    FORMAT,
    StoreFolder,
    make_subfolder,
    partial_file,
    sweep,
)
from chinese_alpaca_rag.llms.prefix_store.keys import BlockKey, before_first, chained, packed
from chinese_alpaca_rag.llms.prefix_store.ledger import Ledger, held_ledger, seen_ledger
from chinese_alpaca_rag.llms.prefix_store.problems import NotKeptError
from chinese_alpaca_rag.llms.prefix_store.room import Room, remove_for_good
from chinese_alpaca_rag.llms.prefix_store.tree import (
    BlockFile,
    and_behind,
    entries_of,
    files_in,
    headers_of,
    place_of,
)

#: The most bytes that a store keeps where its folder names no limit.
DEFAULT_LIMIT: Final = 20 << 30
# How long, in seconds, a writer waits for other processes, and a removal, which must not be left undone.
_WRITING_PATIENCE: Final = 10.0
_REMOVING_PATIENCE: Final = 30.0


class PrefixStore:
    """The blocks in ``folder``: read, written and removed by any number of threads and processes at once.

    Nothing is made or opened before it is needed. ``limit`` in bytes goes before the folder's own; ``reserve`` is what
    stays free on the disk, 1 GiB or a fiftieth of a smaller disk by default. What cannot be read is not there, and
    what cannot be written is not kept: no method but ``set_limit`` raises for the state of a disk.
    """

    def __init__(self, folder: Path, *, limit: int | None = None, reserve: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        #: Why the last write was not kept, the last removal left something or the folder is not used; or ``None``.
        self.problem: Words | None = None
        self._given_limit = None if limit is None else max(0, limit)
        self._place = StoreFolder(self.folder)
        self._room = Room(self._place, reserve)
        self._checked = False
        self._counted = False
        self._latest = 0

    # Reading

    def has(self, key: BlockKey) -> bool:
        """Whether a file stands at the block's place; only ``read`` tells whether it is right."""
        if not self._readable():
            return False
        try:
            return stat.S_ISREG(os.lstat(place_of(self._place.blocks, key)).st_mode)
        except OSError:
            return False

    def read(self, key: BlockKey, ids: Sequence[int]) -> memoryview | None:
        """The state of the block ``key`` of ``ids``, which counts as used now; ``None`` where there is none.

        All of it is verified: what is damaged, not this user's or another block is removed.
        """
        # Looked at again, for others may have got at the folder.
        if not (self._readable() and self._looks_right()):
            return None
        path = place_of(self._place.blocks, key)
        try:
            with opened(path) as descriptor:
                header = read_header(descriptor)
                check(header, key, ids)
                state = read_state(descriptor, header)
                self._mark_used(descriptor, path)
                return state
        except DamagedBlockError:
            self.remove(key)
        except OSError as error:
            # Otherwise it is not there any more, or for the moment not to be had.
            if error.errno == errno.EIO:
                self.remove(key)
        except MemoryError:
            pass
        return None

    def _readable(self) -> bool:
        if self._checked:
            return True
        if not self._looks_right():
            return False
        self._checked = True
        # What killed writers left goes at once where nobody is writing.
        with contextlib.suppress(OSError), held_ledger(self._place.ledger, 0) as ledger:
            if ledger is not None:
                sweep(self._place.partial)
                self._latest = max(self._latest, ledger.latest)
        return True

    def _looks_right(self) -> bool:
        try:
            return self._place.exists()
        except NotKeptError as refused:
            self.problem = refused.words
        except OSError as error:
            self.problem = problems.of_error(self.folder, error)
        return False

    def _mark_used(self, descriptor: int, path: str) -> None:
        # A clock that was set back must not make what is used now look older than what was used before.
        self._latest = max(time.time_ns(), self._latest + 1, os.fstat(descriptor).st_mtime_ns + 1)
        with contextlib.suppress(OSError, OverflowError):
            os.utime(descriptor if os.utime in os.supports_fd else path, ns=(self._latest, self._latest))

    def remove(self, key: BlockKey) -> None:
        """Remove the block, for it turned out to be of no use. What follows it stays for when it is written again."""
        # A store that a later version has taken over meanwhile is not ours to clear.
        with contextlib.suppress(OSError, NotKeptError):
            if self._place.exists():
                Path(place_of(self._place.blocks, key)).unlink(missing_ok=True)

    # Writing

    def write(
        self,
        key: BlockKey,
        ids: Sequence[int],
        state: bytes | bytearray | memoryview,
        *,
        parent: BlockKey | None,
        about: SpaceFacts,
        labels: Sequence[str],
        since: int | None = None,
    ) -> bool:
        """Keep ``state`` as that of the block ``key`` of ``ids``, which follows ``parent``; whether it is kept.

        Where it is not, ``problem`` says why. It is kept whole or not at all, whatever happens meanwhile, and only
        behind a parent that is. ``labels`` name the documents that its text is from. ``since`` is the ``generation``
        before the text was taken from them: nothing is kept of what was forgotten since then. ValueError where
        key, ids and parent do not belong together.
        """
        content = memoryview(state).cast("B")
        plain = packed(ids)
        before = parent.digest if parent else before_first(key.space)
        behind = (parent.space, parent.end) if parent else (key.space, 0)
        if behind != (key.space, key.start) or len(ids) != key.end - key.start or chained(before, plain) != key.digest:
            raise ValueError("a block must be named by its ids and what comes before them")
        if not 0 < len(content) <= MOST_STATE:
            raise ValueError(f"a state of {len(content)} bytes")
        self.problem = None
        try:
            header = written_header(key, parent, plain, about, labels, state=content)
            if header is None:
                raise NotKeptError(problems.header_too_long(MOST_HEADER))
            self._keep(key, parent, header, content, since)
        except NotKeptError as refused:
            self.problem = refused.words
        except OSError as error:
            self.problem = problems.of_error(self.folder, error)
        return self.problem is None

    def _keep(
        self, key: BlockKey, parent: BlockKey | None, header: bytes, content: memoryview, since: int | None
    ) -> None:
        size = len(header) + len(content)
        self._room.note(key.digest, parent.digest if parent else before_first(key.space))
        self._place.make()
        with self._held() as ledger:
            generation = ledger.generation
            if since not in (None, generation):
                raise NotKeptError(problems.forgotten_meanwhile(self.folder))
            if self._stands(key):
                return
            self._prepare(ledger, parent, size, on_disk=size)
        with partial_file(self._place.partial) as file:
            file.write(header, content)
            with self._held() as ledger:
                if ledger.generation != generation:
                    raise NotKeptError(problems.forgotten_meanwhile(self.folder))
                self._prepare(ledger, parent, size)
                used = ledger.now()
                self._latest = max(self._latest, used)
                with contextlib.suppress(OSError, OverflowError):
                    file.mark_used(used)
                place = Path(place_of(self._place.blocks, key))
                replaced = _size_of(place)
                make_subfolder(place.parent.parent)
                make_subfolder(place.parent)
                ledger.add(size)
                file.place(place)
                ledger.add(-replaced)
        wait_for_disk(place.parent)

    @contextlib.contextmanager
    def _held(self) -> Iterator[Ledger]:
        """The ledger, counted by this object at least once. NotKeptError, OSError."""
        with held_ledger(self._place.ledger, _WRITING_PATIENCE) as ledger:
            if ledger is None:
                raise NotKeptError(problems.busy(self.folder))
            if ledger.bytes is None or not self._counted:
                self._room.count(ledger)
                self._counted = True
            yield ledger

    def _stands(self, key: BlockKey) -> bool:
        """Whether another process has written the block by now; then it counts as used."""
        path = place_of(self._place.blocks, key)
        try:
            with opened(path) as descriptor:
                stands = read_header(descriptor).key == key
                if stands:
                    self._mark_used(descriptor, path)
                return stands
        except (OSError, DamagedBlockError):
            return False

    def _prepare(self, ledger: Ledger, parent: BlockKey | None, size: int, *, on_disk: int = 0) -> None:
        self._room.make(ledger, size, self.limit, parent.digest if parent else None, on_disk=on_disk)
        if parent is not None and not self.has(parent):
            raise NotKeptError(problems.parent_gone(self.folder))

    def claim(self, key: BlockKey) -> Claim | None:
        """The right to compute the block, until it is released; ``None`` while another process or thread has it.

        The claims of a process that dies are free again at once. Where the store cannot be written a claim binds
        nobody.
        """
        try:
            self._place.make()
        except (OSError, NotKeptError):
            return Claim(None, 0)
        return claim(self._place.claims, key)

    # Looking at it, and removing

    @property
    def limit(self) -> int:
        """The most bytes that are kept; 0 keeps nothing."""
        if self._given_limit is not None:
            return self._given_limit
        limit = self._place.limit
        return DEFAULT_LIMIT if limit is None else limit

    def set_limit(self, limit: int) -> None:
        """Keep at most ``limit`` bytes from now on, in every process; what is too much goes, the least used first.

        WrongUsageError for a negative number; AlpacaRagError where the folder cannot be written.
        """
        if limit < 0:
            raise WrongUsageError(
                Words(zh=f"上限不能是负数：{limit}", en=f"A limit cannot be negative: {limit}"),
                hint=Words(zh="0 表示什么都不保留。", en="0 keeps nothing."),
            )
        try:
            self._place.make()
            self._place.write_marker({**self._place.marker(), "format": FORMAT, "limit": limit})
            self._given_limit = None
            with self._held() as ledger:
                self._room.make(ledger, 0, limit)
        except NotKeptError as refused:
            raise _limit_not_set(self.folder, refused.words) from None
        except OSError as error:
            raise _limit_not_set(self.folder, problems.of_error(self.folder, error)) from error

    def usage(self) -> StoreUsage:
        """How much is kept at the moment."""
        files = files_in(self._place.blocks) if self._readable() else {}
        return StoreUsage(len(files), sum(file.size for file in files.values()), self.limit)

    def entries(self) -> list[PrefixEntry]:
        """What is kept, one entry for each beginning that none other begins with, the last used first."""
        if not self._readable():
            return []
        files = files_in(self._place.blocks)
        return entries_of(files, headers_of(files))

    @property
    def generation(self) -> int:
        """A number that changes with every ``forget_documents``, in any process; for ``write``'s ``since``."""
        ledger = seen_ledger(self._place.ledger) if self._readable() else None
        return ledger.generation if ledger is not None else 0

    def clear(self, *, space: str | None = None, model: str | None = None) -> StoreUsage:
        """Remove all blocks, or those of a space or a model and what follows them; what was removed.

        Where something stays, ``problem`` says why.
        """

        def chosen(header: BlockHeader) -> bool:
            return space in (None, header.key.space) and model in (None, header.about.model)

        return self._remove(chosen, space)

    def forget_documents(self, predicate: Callable[[str], bool]) -> int:
        """Remove each block with a label that ``predicate`` is true of, and all that follow it; how many.

        What cannot be read, and what follows on something that is gone, may be from such a document: it goes too.
        Blocks that other processes are writing at the time are not kept. What they begin to write afterwards is, if
        they took the text from the document before: that is what ``since`` of ``write`` is for. Where something
        stays, ``problem`` says why.
        """
        return self._remove(lambda header: any(predicate(label) for label in header.labels)).blocks

    def _remove(self, chosen: Callable[[BlockHeader], bool], space: str | None = None) -> StoreUsage:
        self.problem = None
        gone = list[BlockFile]()
        try:
            if self._place.exists():
                with contextlib.ExitStack() as stack:
                    ledger = self._held_for_removing(stack)
                    gone, failure = self._remove_once(chosen, space)
                    if ledger is None:
                        # Somebody may have placed a block while the others were looked at.
                        more, failure = self._remove_once(chosen, space)
                        gone += more
                    elif ledger.bytes is not None:
                        # Too much in the ledger is put right by the next count.
                        with contextlib.suppress(OSError):
                            ledger.add(-sum(file.size for file in gone))
                    if failure is not None:
                        self.problem = problems.not_removed(self.folder, failure)
        except NotKeptError as refused:
            self.problem = refused.words
        except OSError as error:
            self.problem = problems.not_removed(self.folder, error)
        return StoreUsage(len(gone), sum(file.size for file in gone), self.limit)

    def _held_for_removing(self, stack: contextlib.ExitStack) -> Ledger | None:
        """The ledger with a new generation. A disk that is full, or a process that is stuck, prevents no removal."""
        ledger = None
        with contextlib.suppress(OSError):
            ledger = stack.enter_context(held_ledger(self._place.ledger, _REMOVING_PATIENCE))
            if ledger is not None:
                ledger.generation += 1
                self._room.count(ledger)
        return ledger

    def _remove_once(
        self, chosen: Callable[[BlockHeader], bool], space: str | None
    ) -> tuple[list[BlockFile], OSError | None]:
        files = {digest: file for digest, file in files_in(self._place.blocks).items() if space in (None, file.space)}
        return remove_for_good(and_behind(chosen, files, headers_of(files)))


def _limit_not_set(folder: Path, reason: Words) -> AlpacaRagError:
    return AlpacaRagError(
        Words(zh=f"无法设置 {folder} 的上限。", en=f"The limit of {folder} could not be set."), hint=reason
    )


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
