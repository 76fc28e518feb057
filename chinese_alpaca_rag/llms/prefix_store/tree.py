"""The blocks on disk as the trees that they are: which one follows which, and in which order they may go."""

from __future__ import annotations

import contextlib
import heapq
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.llms.prefix_store.block_file import BlockHeader, DamagedBlockError, opened, read_header
from chinese_alpaca_rag.llms.prefix_store.facts import PrefixEntry
from chinese_alpaca_rag.llms.prefix_store.keys import BlockKey

SUFFIX: Final = ".block"
_NAME: Final = re.compile(r"([0-9a-f]{64})\.block")
_SPACE: Final = re.compile(r"[0-9a-f]{64}")
# Digits of a short name, as of a Git commit.
_SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class BlockFile:
    """A file that stands at a block's place, ``size`` in bytes, last ``used`` in nanoseconds; nothing of it is read."""

    path: str
    space: str
    digest: bytes
    size: int
    used: int


Files = Mapping[bytes, BlockFile]
Headers = Mapping[bytes, BlockHeader]


def place_of(blocks: Path | str, key: BlockKey) -> str:
    """The path of the block ``key`` below the folder ``blocks``."""
    digest = key.digest.hex()
    return f"{blocks}/{key.space}/{digest[:2]}/{digest}{SUFFIX}"


def files_in(blocks: Path) -> dict[bytes, BlockFile]:
    """Every file that stands at a block's place, by digest: what has another name is not the store's."""
    files = dict[bytes, BlockFile]()
    for space in _folders(blocks):
        if not _SPACE.fullmatch(space.name):
            continue
        for folder in _folders(space):
            # A folder may go while it is looked at.
            with contextlib.suppress(OSError), os.scandir(folder) as found:
                for entry in found:
                    match = _NAME.fullmatch(entry.name)
                    if match is None or entry.is_dir(follow_symlinks=False):
                        continue
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        digest = bytes.fromhex(match[1])
                        files[digest] = BlockFile(entry.path, space.name, digest, status.st_size, status.st_mtime_ns)
    return files


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def header_of(file: BlockFile) -> BlockHeader | None:
    """The header of ``file``; ``None`` for a damaged or foreign one, or where it cannot be read."""
    try:
        with opened(file.path) as descriptor:
            header = read_header(descriptor)
    except (OSError, DamagedBlockError):
        return None
    if header.key.digest != file.digest or header.key.space != file.space:
        return None
    return header


def headers_of(files: Files) -> dict[bytes, BlockHeader]:
    """The headers of all ``files`` that have one."""
    headers = ((digest, header_of(file)) for digest, file in files.items())
    return {digest: header for digest, header in headers if header is not None}


def leaving(files: Files, parents: Mapping[bytes, bytes], staying: Collection[bytes]) -> Iterator[BlockFile]:
    """``files`` in the order in which they go to make room, without ``staying``, a block and all before it.

    No block goes before one that follows it: that would be of no use any more. Of those that nothing follows the
    least recently used goes first, the longer beginning of two that were used together. ``parents`` are known
    from headers: a file without one is no block, and goes before all others, as does what begins behind a gap.
    """
    following = dict.fromkeys(files, 0)
    for digest in files:
        if parents.get(digest) in following:
            following[parents[digest]] += 1
    depths = _depths(files, parents)

    def turn(digest: bytes) -> tuple[bool, int, int, bytes]:
        depth = depths[digest]
        return depth is not None, files[digest].used, -(depth or 0), digest

    waiting = [turn(digest) for digest in files if not following[digest] and digest not in staying]
    heapq.heapify(waiting)
    while waiting:
        digest = heapq.heappop(waiting)[-1]
        yield files[digest]
        parent = parents.get(digest)
        if parent in following:
            following[parent] -= 1
            if not following[parent] and parent not in staying:
                heapq.heappush(waiting, turn(parent))


def _depths(files: Files, parents: Mapping[bytes, bytes]) -> dict[bytes, int | None]:
    """How many blocks come before each; ``None`` where one of them is missing."""
    depths = dict[bytes, int | None]()
    for digest in files:
        line = []
        while digest in files and digest not in depths and digest in parents:
            line.append(digest)
            digest = parents[digest]  # noqa: PLW2901 - up the line
        # What comes before a first block is its space, which is no file's digest but the name of its folder.
        if not line:
            depths.setdefault(digest, None)
            continue
        depth = -1 if digest.hex() == files[line[-1]].space else depths.get(digest)
        for below in reversed(line):
            depth = None if depth is None else depth + 1
            depths[below] = depth
    return depths


def ancestors(first: bytes | None, parents: Mapping[bytes, bytes]) -> set[bytes]:
    """``first`` and all that comes before it, as far as it is known."""
    found = set[bytes]()
    while first is not None and first not in found:
        found.add(first)
        first = parents.get(first)
    return found


def and_behind(chosen: Callable[[BlockHeader], bool], files: Files, headers: Headers) -> list[BlockFile]:
    """The files that are ``chosen`` and all that follow them, those first that nothing follows.

    What cannot be read, and what follows on something that is not there, may follow them too: it is among them.
    """
    parents = {digest: header.parent for digest, header in headers.items()}
    depths = _depths(files, parents)
    going = set[bytes]()
    for digest in sorted(files, key=lambda each: -1 if depths[each] is None else depths[each] or 0):
        header = headers.get(digest)
        if header is None or depths[digest] is None or header.parent in going or chosen(header):
            going.add(digest)
    return [files[digest] for digest in sorted(going, key=lambda each: -(depths[each] or 0))]


def entries_of(files: Files, headers: Headers) -> list[PrefixEntry]:
    """One entry for each block that nothing follows, the most recently used first."""
    followed = {header.parent for header in headers.values()}
    parents = {digest: header.parent for digest, header in headers.items()}
    lines = []
    sharing = dict.fromkeys(headers, 0)
    for digest in headers:
        if digest not in followed:
            line = [each for each in _upwards(digest, parents) if each in headers]
            lines.append(line[::-1])
            for each in line:
                sharing[each] += 1
    lines.sort(key=lambda line: files[line[-1]].used, reverse=True)
    now = datetime.now(UTC)
    return [_entry(line, files, headers, sharing, now) for line in lines]


def _upwards(digest: bytes, parents: Mapping[bytes, bytes]) -> Iterator[bytes]:
    while digest in parents:
        yield digest
        digest = parents[digest]


def _entry(
    line: list[bytes], files: Files, headers: Headers, sharing: Mapping[bytes, int], now: datetime
) -> PrefixEntry:
    last, file = headers[line[-1]], files[line[-1]]
    sizes = {digest: files[digest].size for digest in line}
    return PrefixEntry(
        model=last.about.model,
        format=last.about.format,
        kv_type=last.about.kv_type,
        rope=last.about.rope,
        window=last.about.window,
        space=last.key.space,
        digest=last.key.digest.hex()[:_SHORT],
        tokens=last.key.end,
        bytes=sum(size for digest, size in sizes.items() if sharing[digest] == 1),
        total_bytes=sum(sizes.values()),
        last_used=min(now, _time(file.used, now)),
        labels=tuple(dict.fromkeys(label for digest in line for label in headers[digest].labels)),
    )


def _time(nanoseconds: int, now: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (OverflowError, ValueError, OSError):
        return now
