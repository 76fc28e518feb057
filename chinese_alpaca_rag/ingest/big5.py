"""Big5 as it is found in files: Microsoft's code page 950, the ETEN characters and Hong Kong's supplement.

Python's ``cp950`` reads what Windows in Taiwan writes, but puts kana and circled numbers (0xC6A1-0xC7FC)
where the Unicode Consortium's table had them; nearly all files follow ETEN, as ``big5hkscs`` does. That codec
in turn reads a few full-width signs as other ones, which is mended here.
"""

from __future__ import annotations

import re

_MENDED_SIGNS = str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡")
# Code page 950 has two slashes; the one of 0xA241 is nearly always another program's full-width slash.
_MENDED_SLASHES = str.maketrans("∕﹨", "／＼")
_CONTESTED = re.compile(rb"\xc6[\xa1-\xfe]|\xc7[\x40-\x7e\xa1-\xfe]")
_KANA_SWITCH = re.compile(r"[\u3041-\u3096][\u30a1-\u30fa]|[\u30a1-\u30fa][\u3041-\u3096]")
_OUT_OF_PLACE = re.compile(r"[\u0400-\u04ff\u2e80-\u2fdf\u31c0-\u31ef]")


def decode_big5(data: bytes) -> tuple[str, str]:
    """The text of Big5 ``data`` and the codec that was used: "big5", "cp950" or "big5hkscs".

    Raises UnicodeDecodeError where neither codec reads all, at the first byte that even the supplement lacks.
    """
    plain = _attempt(data, "cp950")
    if plain is not None and not _CONTESTED.search(data):
        return plain.translate(_MENDED_SLASHES), _plain_codec(data)
    supplemented = _attempt(data, "big5hkscs")
    if supplemented is not None:
        supplemented = supplemented.translate(_MENDED_SIGNS)
        if plain is None or (supplemented != plain and _oddity(supplemented) <= _oddity(plain)):
            return supplemented, "big5hkscs"
    if plain is not None:
        return plain.translate(_MENDED_SLASHES), _plain_codec(data)
    return data.decode("big5hkscs"), "big5hkscs"  # raises


def _plain_codec(data: bytes) -> str:
    return "cp950" if _attempt(data, "big5") is None else "big5"


def _oddity(text: str) -> int:
    """How often a text mixes the two kana inside a word or holds signs that nobody writes."""
    return len(_KANA_SWITCH.findall(text)) + len(_OUT_OF_PLACE.findall(text))


def _attempt(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None
