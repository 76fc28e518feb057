"""Why the store did not keep something, in words that say what to do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from chinese_alpaca_rag.language import Words

_MIB: Final = 1 << 20


class NotKeptError(Exception):
    """The store stays as it is, for the reason in ``words``. It never leaves the store."""

    def __init__(self, words: Words) -> None:
        super().__init__(words)
        self.words = words


def of_error(folder: Path, error: OSError) -> Words:
    """What the operating system refused."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return disk_full(folder)
    if error.errno == errno.EFBIG:
        return Words(
            zh=f"系统不允许在 {folder} 写这么大的文件：请放宽 ulimit -f，或换一个文件夹。",
            en=f"The system allows no file of this size in {folder}: raise ulimit -f, or use another folder.",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return Words(
            zh=f"无法使用 {folder}（{error.strerror}）：请检查它的权限，或换一个文件夹。",
            en=f"{folder} cannot be used ({error.strerror}): check its permissions, or use another folder.",
        )
    if error.errno == errno.ENOENT:
        return vanished(folder)
    return Words(
        zh=f"写入 {folder} 时出错（{error}）：请检查磁盘，或换一个文件夹。",
        en=f"Writing to {folder} failed ({error}): check the disk, or use another folder.",
    )


def disk_full(folder: Path, free: int | None = None, needed: int | None = None) -> Words:
    """There is no room on the disk; ``free`` and ``needed`` are in bytes."""
    if free is None or needed is None:
        numbers_zh = numbers_en = ""
    else:
        numbers_zh = f"（剩余 {_mib(free)}，需要 {_mib(needed)}）"
        numbers_en = f" ({_mib(free)} free, {_mib(needed)} needed)"
    return Words(
        zh=f"{folder} 所在的磁盘满了{numbers_zh}：请腾出空间，或运行 alpaca-rag cache clear。",
        en=f"The disk of {folder} is full{numbers_en}: free some space, or run alpaca-rag cache clear.",
    )


def over_limit(folder: Path, size: int, limit: int) -> Words:
    """A block of ``size`` bytes does not fit in beside those before it; ``limit`` is in bytes."""
    if limit == 0:
        return Words(
            zh=f"{folder} 的上限是 0，什么都不保留；用 alpaca-rag cache limit 提高它。",
            en=f"The limit of {folder} is 0, so nothing is kept; raise it with alpaca-rag cache limit.",
        )
    return Words(
        zh=f"{folder} 的上限是 {_mib(limit)}，这段开头连同它前面的放不下（最后一块 {_mib(size)}）；"
        "用 alpaca-rag cache limit 提高它。",
        en=f"The limit of {folder} is {_mib(limit)}, and this beginning does not fit in (its last block takes "
        f"{_mib(size)}); raise it with alpaca-rag cache limit.",
    )


def header_too_long(most: int) -> Words:
    """The labels of one block take more than ``most`` bytes."""
    return Words(
        zh=f"这一块的来源名称太长（超过 {most} 字节），没有保留；请用短一些的来源名称。",
        en=f"The sources of this block have names too long to keep (more than {most} bytes): use shorter ones.",
    )


def parent_gone(folder: Path) -> Words:
    """What comes before the block was removed in the meantime."""
    return Words(
        zh=f"这段开头的前一部分已不在 {folder} 里，后面的不再保留；下次会重新计算并保留。",
        en=f"What comes before is no longer in {folder}, so this was not kept; the next time all of it is.",
    )


def forgotten_meanwhile(folder: Path) -> Words:
    """Documents were forgotten after the block was computed."""
    return Words(
        zh=f"其间有文档从 {folder} 里移除，这一块可能出自它，没有保留；下次会重新计算并保留。",
        en=f"Documents were removed from {folder} meanwhile and this may be from one of them, so it was not kept; "
        "the next time it is.",
    )


def busy(folder: Path) -> Words:
    """Other processes held the store for too long."""
    return Words(
        zh=f"另一个进程一直占用着 {folder}，没有保留；等它完成后会再保留。",
        en=f"Another process kept {folder} busy, so this was not kept; it will be when that one is done.",
    )


def vanished(folder: Path) -> Words:
    """The folder was there and is no more."""
    return Words(
        zh=f"{folder} 不见了：如果它在可移动或网络磁盘上，请重新连接；否则重新启动程序即可。",
        en=f"{folder} has gone: if it is on a removable or network disk, connect it again; otherwise start again.",
    )


def not_private(folder: Path) -> Words:
    """Others than the user own the folder or may write to it."""
    return Words(
        zh=f"{folder} 属于别的用户，或别的用户可以写入，里面的内容不可信：请运行 chmod 700 {folder}，或换一个文件夹。",
        en=f"{folder} belongs to another user or others may write to it, so what it holds cannot be trusted: "
        f"run chmod 700 {folder}, or use another folder.",
    )


def no_folder(folder: Path) -> Words:
    """Something else stands in the folder's place."""
    return Words(
        zh=f"{folder} 不是文件夹：请移走它，或换一个文件夹。",
        en=f"{folder} is no folder: move it away, or use another folder.",
    )


def newer(folder: Path, found: int, known: int) -> Words:
    """The store is of a format that a later version of the kit made."""
    return Words(
        zh=f"{folder} 的格式是 {found}，这个版本只认识到 {known}，没有动它：请升级，或换一个文件夹。",
        en=f"{folder} is of format {found} and this version knows {known}, so it was left alone: upgrade, or use "
        "another folder.",
    )


def not_removed(folder: Path, error: OSError) -> Words:
    """Something that was to be removed is still there."""
    return Words(
        zh=f"{folder} 里有文件删除不了（{error}）：请检查权限后再运行一次，或自己删除这个文件夹。",
        en=f"Some of {folder} could not be removed ({error}): check its permissions and run this again, or remove "
        "the folder yourself.",
    )


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB" if size >= _MIB else f"{size:,} B"
