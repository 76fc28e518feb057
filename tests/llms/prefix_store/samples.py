"""Blocks whose states can be told from their names, so that a wrong one shows wherever it is read."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chinese_alpaca_rag.llms.prefix_store import BlockKey, PrefixStore, SpaceFacts, block_keys, space_of
from chinese_alpaca_rag.llms.prefix_store.block_file import opened, read_header
from chinese_alpaca_rag.llms.prefix_store.tree import files_in, place_of

ROOT = Path(__file__).resolve().parents[3]
ABOUT = SpaceFacts(model="chinese-alpaca-2-7b-16k", format="gguf", kv_type="q8_0", window=16384, rope="linear")
SPACE = space_of({"weights": "a", "kv_type": "q8_0"})
#: Bytes of a state in most tests, and of its file: one page of header.
STATE = 60_000
FILE = STATE + 4096


@dataclass(frozen=True)
class Block:
    """A block of a prompt, with all that ``write`` asks for."""

    key: BlockKey
    ids: tuple[int, ...]
    parent: BlockKey | None
    labels: tuple[str, ...]


def state_of(key: BlockKey, size: int = STATE) -> bytes:
    """The one state of ``size`` bytes that is right for ``key``."""
    return random.Random(key.digest).randbytes(size)


def prompt(*texts: str, space: str = SPACE, length: int = 16) -> list[Block]:
    """One block of ``length`` tokens for each of ``texts``, labelled with it; equal beginnings are equal blocks."""
    ids: list[int] = []
    for text in texts:
        numbers = hashlib.sha512(text.encode()).digest()
        ids += [numbers[place % 64] * 200 + place for place in range(length)]
    keys = block_keys(space, ids, [length * number for number in range(1, len(texts) + 1)])
    return [
        Block(key, tuple(ids[key.start : key.end]), parent, (text,))
        for key, parent, text in zip(keys, [None, *keys], texts, strict=False)
    ]


def put(store: PrefixStore, block: Block, size: int = STATE, about: SpaceFacts = ABOUT) -> bool:
    """Write ``block`` with its right state."""
    return store.write(
        block.key, block.ids, state_of(block.key, size), parent=block.parent, about=about, labels=block.labels
    )


def put_all(store: PrefixStore, blocks: Sequence[Block], size: int = STATE, about: SpaceFacts = ABOUT) -> None:
    """Write every one of ``blocks``."""
    for block in blocks:
        assert put(store, block, size, about), store.problem


def got(store: PrefixStore, block: Block) -> bool:
    """Whether the block is there; what is read is right."""
    state = store.read(block.key, block.ids)
    assert state is None or state == state_of(block.key, len(state))
    return state is not None


def held(store: PrefixStore, blocks: Sequence[Block]) -> list[int]:
    """The numbers of those of ``blocks`` that a file stands for."""
    return [number for number, block in enumerate(blocks) if store.has(block.key)]


def path_of(store: PrefixStore, block: Block) -> Path:
    """Where the block's file stands."""
    return Path(place_of(store.folder / "blocks", block.key))


def partial_files(store: PrefixStore) -> list[Path]:
    """The files that are being written, or that were when their writer died."""
    folder = store.folder / "partial"
    return list(folder.iterdir()) if folder.exists() else []


def everything(store: PrefixStore) -> Iterator[tuple[BlockKey, int]]:
    """Every block that is there, read and right, and its file's bytes; none of them may be damaged."""
    for file in files_in(store.folder / "blocks").values():
        with opened(file.path) as descriptor:
            header = read_header(descriptor)
        ids = [int.from_bytes(header.ids[at : at + 4], "little") for at in range(0, len(header.ids), 4)]
        state = store.read(header.key, ids)
        assert state is not None and state == state_of(header.key, len(state))
        yield header.key, file.size
