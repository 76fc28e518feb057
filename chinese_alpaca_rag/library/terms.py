"""From text to the terms that the full-text index holds, and that a question is looked up by.

Chinese has no spaces, so a run of Chinese characters (kana and hangul too) becomes its single
characters and its overlapping character pairs. Everything else that is made of letters and digits is
a word. A word with joints (``ZX-200``, ``3.14``, ``2023-05-01``, ``user@example.com``) is kept whole
and given in its parts as well, so that it is found both by its exact form and by a part of it.

Text is first made comparable: Unicode NFKC (full-width and half-width forms become one) and case
folding; accents fall from Latin letters, and a plural ``s`` from English words.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Changes whenever the same text would give other terms: an index made by another version is rebuilt.
TERMS_VERSION = f"1/unicode-{unicodedata.unidata_version}"

LONGEST_WORD = 64

_CJK = (
    "々〆〇〡-〩"  # iteration mark, shime, zero and the Suzhou numerals
    "\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han, all planes
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    "\u3105-\u312f\u31a0-\u31bf"  # bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"  # hangul
)
_JOINT = r"[-./:_'’+@\\&~]"
_LETTER = rf"(?:(?![{_CJK}_])[\w\u0300-\u036f\u0900-\u0dff\u0e31-\u0e4e])"
_PIECE = re.compile(
    rf"(?P<cjk>[{_CJK}]+)"
    r"|(?P<grouped>(?<![\d,.])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,]))"
    rf"|(?P<word>{_LETTER}+(?:{_JOINT}{_LETTER}+)*(?:\+\+|\#(?!\w))?)"
)
_PART = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
# Characters that print nothing and may stand inside a word: soft hyphen, zero-width, direction, tags.
_INVISIBLE = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufe00-\ufe0f\U000e0000-\U000e01ef]+")


def index_terms(text: str) -> list[str]:
    """The terms of ``text``, repeated as often as they occur; none holds a space."""
    terms: list[str] = []
    for piece in _PIECE.finditer(comparable(text)):
        if piece.lastgroup == "cjk":
            run = piece.group()
            terms += run
            terms += map(str.__add__, run, run[1:])
        elif piece.lastgroup == "grouped":
            terms.append(piece.group().replace(",", ""))
        else:
            terms += _word_terms(piece.group())
    return terms


def query_terms(text: str) -> list[str]:
    """The different terms of a question, in the order in which they first stand there."""
    return list(dict.fromkeys(index_terms(text)))


def comparable(text: str) -> str:
    """``text`` with differences of width, case and invisible characters taken away. Offsets do not survive."""
    if text.isascii():
        return text.lower()
    text = _INVISIBLE.sub("", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _word_terms(word: str) -> list[str]:
    """The word itself, then its parts where it has joints or mixes letters and digits."""
    plain = _without_accents(word).replace("’", "'")
    whole = _bounded(_singular(plain))
    parts = [_bounded(_singular(part.lstrip("0") or "0")) for part in _PART.findall(plain)]
    if not parts or parts == [whole]:
        return [whole]
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
    """Long words (encoded data, mostly) keep their beginning and a digest, so that the index stays small."""
    if len(word) <= LONGEST_WORD:
        return word
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return word[: LONGEST_WORD - len(digest)] + digest
