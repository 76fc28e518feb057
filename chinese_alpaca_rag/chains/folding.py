"""Text made comparable, with the way back to the original.

Folding takes away what a quotation may change without saying anything else: width (Unicode NFKC), case,
traditional against simplified characters, the shape of quotation marks, dashes and the like, invisible
characters, Markdown's ``**``, and white space. Only between two words or numbers of an alphabet, where it
tells ``1 5`` from ``15``, does a space stay. Every folded character knows the original stretch that it came from.
"""

from __future__ import annotations

import unicodedata
from array import array
from dataclasses import dataclass
from functools import lru_cache

from chinese_alpaca_rag.script import simplified

_SHAPES = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»「」『』〝〞＂", '"'),
        **dict.fromkeys("‘’‚‛`´", "'"),
        **dict.fromkeys("‐‑‒–—―−﹣", "-"),
        **dict.fromkeys("【〔〖", "["),
        **dict.fromkeys("】〕〗", "]"),
        **dict.fromkeys("〈《", "<"),
        **dict.fromkeys("〉》", ">"),
        **dict.fromkeys("·•‧・∙⋅", "·"),
        "、": ",",
        "〜": "~",
        "～": "~",
    }
)
# ASCII marks that join numbers (3.5, 1,000): a space behind one of them parts the numbers again.
_JOINTS = frozenset(".,:-")
# Not in category Cf, but as invisible: variation selectors, the combining grapheme joiner, hangul fillers.
_INVISIBLE = frozenset(map(chr, (0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10))))


@dataclass(frozen=True)
class Folded:
    """``text`` is the folded form; character ``i`` of it stands for ``original[starts[i]:ends[i]]``."""

    text: str
    starts: array[int]
    ends: array[int]


def fold(original: str) -> Folded:
    """Fold ``original`` in linear time. Any text is taken, lone surrogates included."""
    folded: list[str] = []
    starts = array("q")
    ends = array("q")
    gap_start = -1  # where the white space since the last folded character began, or -1
    previous = ""  # what stands before the gap: an ASCII joint as it was written, else its folded form
    position = 0
    while position < len(original):
        end = _cluster_end(original, position)
        cluster = original[position:end]
        shown = _shown(cluster)
        if not shown:
            if gap_start < 0 and (cluster.isspace() or cluster == "**"):
                gap_start = position
        else:
            if gap_start >= 0 and previous and _needs_space(previous, shown):
                folded.append(" ")
                starts.append(gap_start)
                ends.append(position)
            for character in shown:
                folded.append(character)
                starts.append(position)
                ends.append(end)
            gap_start = -1
            previous = cluster if cluster in _JOINTS else shown
        position = end
    return Folded("".join(folded), starts, ends)


def is_ideographic(character: str) -> bool:
    """Whether a character is of a script that is written without spaces: Han, kana, hangul and their marks."""
    return character >= "\u2e80"


def _cluster_end(text: str, start: int) -> int:
    """The end of the character at ``start`` with the combining marks that belong to it; ``**`` is one."""
    end = start + 1
    if text[start] == "*" and text.startswith("**", start):
        return start + 2
    while end < len(text) and text[end] >= "\u0300" and end - start < 32 and unicodedata.combining(text[end]):
        end += 1
    return end


@lru_cache(maxsize=16384)
def _shown(cluster: str) -> str:
    """What is left of one cluster; empty for white space and what is invisible."""
    if cluster == "**":
        return ""
    if unicodedata.decomposition(cluster[0]).startswith("<super>") and cluster[0].isdigit():
        return "^" + unicodedata.normalize("NFKC", cluster)  # 10² is not 102
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster.translate(_SHAPES)).casefold())
    return "".join(character for character in simplified(normal.translate(_SHAPES)) if not _is_blank(character))


def _is_blank(character: str) -> bool:
    return character.isspace() or character in _INVISIBLE or unicodedata.category(character) in ("Cf", "Cc", "Zl", "Zp")


def _needs_space(previous: str, following: str) -> bool:
    """Whether white space between these two says something: it parts words, and numbers from numbers."""
    if not following[0].isalnum() or is_ideographic(following[0]):
        return False
    last = previous[-1]
    return (last.isalnum() and not is_ideographic(last)) or (previous in _JOINTS and following[0].isdigit())
