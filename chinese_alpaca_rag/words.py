"""Text in the pieces that are compared: runs of Chinese, and words made of letters and digits.

Chinese is written without spaces (kana and hangul are taken so too): a run of it is a piece. A word keeps
its joints, as in ``ZX-200``, ``3.14``, ``2023-05-01`` and ``user@example.com``; ``word_forms`` gives its parts.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from chinese_alpaca_rag.script import comparable

LONGEST_WORD = 64  # characters

_CJK = (
    "々〆〇〡-〩"  # iteration mark, shime, zero and the Suzhou numerals
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han, all planes
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"  # hangul
)
_CHINESE = re.compile(f"[{_CJK}]")
_JOINT = r"[-./:_'’+@\\&~]"
_LETTER = rf"(?:(?![{_CJK}_])[\w\u0300-\u036f\u0900-\u0dff\u0e31-\u0e4e])"
_PIECE = re.compile(
    rf"(?P<run>[{_CJK}]+)"
    r"|(?P<grouped>(?<![\d,.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,]))"
    rf"|(?P<word>{_LETTER}+(?:{_JOINT}{_LETTER}+)*(?:\+\+|\#(?!\w))?)"
)
_NOT_CHINESE = re.compile(rf"[^{_CJK}\s。、《》（）()“”；;？！?!…]+")  # nor what neither is nor joins a word
_LONE_MARKS = frozenset(",.:·‧/-—'\"%&+~<>[]*=|")
_PART = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")


def plain(text: str) -> str:
    """``text`` made comparable, for ``pieces``."""
    # A full-width comma parts numbers; as an ASCII one, which it would become, it could group digits.
    return comparable(text.replace("，", "、"))


class Piece(NamedTuple):
    """A ``run`` of Chinese or a ``word``; the other is empty. ``touches`` the piece before if nothing parts them."""

    run: str
    word: str
    touches: bool


def pieces(plain_text: str) -> Iterator[Piece]:
    """The pieces of ``plain`` text in order; numbers come without their grouping commas."""
    end = -1
    for match in _PIECE.finditer(plain_text):
        found = match.group()
        touches = match.start() == end
        end = match.end()
        if match.lastgroup == "run":
            yield Piece(found, "", touches)
        else:
            yield Piece("", found.replace(",", "") if match.lastgroup == "grouped" else found, touches)


def words_in(plain_text: str) -> Iterator[str]:
    """The words of ``plain`` text in order, as ``pieces`` gives them."""
    for stretch in _NOT_CHINESE.findall(plain_text):
        if stretch not in _LONE_MARKS:
            for piece in pieces(stretch):
                yield piece.word


def is_chinese(term: str) -> bool:
    """Whether ``term`` begins with a character that is written without spaces."""
    return _CHINESE.match(term) is not None


def word_forms(word: str) -> list[str]:
    """The word itself, then its parts where it has joints or mixes letters and digits.

    Accents fall from Latin letters, a plural ``s`` from English words, and leading zeros from the parts. A very
    long word keeps its beginning and a digest.
    """
    bare = _without_accents(word).replace("’", "'")
    whole = _bounded(_singular(bare))
    if bare.isalpha():
        return [whole]
    parts = [_bounded(_singular(part.lstrip("0") or "0")) for part in _PART.findall(bare)]
    return [whole, *(part for part in dict.fromkeys(parts) if part != whole)]


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    kept: list[str] = []
    for character in unicodedata.normalize("NFD", word):
        if unicodedata.combining(character) and kept and kept[-1] < "\u0250":
            continue
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def _singular(word: str) -> str:
    """Harman's S-stemmer: the plural endings of English, and nothing else ("How effective is suffixing?", 1991)."""
    if len(word) < 4 or not word.endswith("s") or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


def _bounded(word: str) -> str:
    if len(word) <= LONGEST_WORD:
        return word
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return word[: LONGEST_WORD - len(digest)] + digest
