"""What is taken out of any text before it is stored: what nobody sees.

Invisible characters can carry instructions to a model past a reader's eyes, and they keep words from being
found. Of visible text only spaces around lines change, and forms that fonts and old encodings put for plain letters.
"""

from __future__ import annotations

import re
import unicodedata

from chinese_alpaca_rag.ingest.tracked import TrackedText

_NEWLINES = re.compile(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
# Controls, soft hyphen, zero-width spaces, directional marks and overrides, invisible operators, fillers, byte
# order marks, annotations, noncharacters, selectors of variants other than text and emoji. Tag characters are
# kept only inside the flags that are spelt with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0100-\U000e01ef]"
)
_TAGS = re.compile("(\U0001f3f4[\U000e0030-\U000e007a]+\U000e007f)|[\U000e0000-\U000e007f]+")
# Joiners mean something between emoji and in Arabic and Indic writing, and hide between these.
_JOINERS = re.compile(
    "(?<=[\x00-\u02ff\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef])[\u200c\u200d]+|^[\u200c\u200d]+"
)
_WIDTHLESS = re.compile("[\u200b\u200c\u200d\u2060-\u2064\ufeff]")
_HINTS, _HINTS_SHARE = 20, 0.02
_SURROGATES = re.compile("[\ud800-\udfff]")
_FORMS = re.compile(
    "[\ufb00-\ufb06\u2f00-\u2fd5\u2e9f\u2ef3\uf900-\ufa0d\ufa10\ufa12\ufa15-\ufa1e\ufa20\ufa22\ufa25\ufa26\ufa2a-\ufad9]"
)
_EDGES = re.compile(r"\A\n+|\n+\Z")
_TRAILING_SPACE = re.compile(r"[ \t\u3000\xa0]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


# Anything that ``visible`` looks for: most texts hold nothing of it, and one scan tells.
_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e01ef]"
)


def visible(text: str) -> str:
    """``text`` without invisible characters, every line break a line feed; lone surrogates become U+FFFD."""
    if _SUSPECT.search(text) is None:
        return text
    text = _NEWLINES.sub("\n", text)
    text = _TAGS.sub(lambda match: match.group(1) or "", _INVISIBLE.sub("", text))
    return _SURROGATES.sub("\ufffd", _JOINERS.sub("", text))


def invisible_count(text: str) -> int:
    """How many characters of ``text`` carry something past a reader's eyes.

    Tag characters outside of flags always; zero-width ones where they are too many to be hints for line breaks.
    """
    if _SUSPECT.search(text) is None:
        return 0
    tags = sum(len(match.group()) for match in _TAGS.finditer(text) if not match.group(1))
    widthless = len(_WIDTHLESS.findall(text))
    return tags + (widthless if widthless > max(_HINTS, _HINTS_SHARE * len(text)) else 0)


def clean_page(text: str) -> str:
    """The text of a page as it is stored: visible, no space at line ends, at most one blank line in a row.

    Ligatures (ﬁ), and radicals and compatibility ideographs that fonts put for the characters themselves, become plain
    letters and characters; width and script stay the author's. :func:`cleaned` knows where each character stood.
    """
    text = visible(text)
    if _FORMS.search(text) is not None:
        text = _FORMS.sub(_plain_form, text)
    return _BLANK_LINES.sub("\n\n", _TRAILING_SPACE.sub("", text)).strip("\n")


def cleaned(text: str) -> TrackedText:
    """``clean_page(text)`` as its ``text``, with a map from its places back to those of ``text``."""
    tracked = TrackedText(text)
    tracked.sub(_NEWLINES, "\n")
    tracked.sub(_INVISIBLE, "")
    tracked.sub(_TAGS, lambda match: match.group(1) or "")
    tracked.sub(_JOINERS, "")
    tracked.sub(_SURROGATES, "\ufffd")
    tracked.sub(_FORMS, _plain_form)
    tracked.sub(_TRAILING_SPACE, "")
    tracked.sub(_BLANK_LINES, "\n\n")
    tracked.sub(_EDGES, "")
    return tracked


def _plain_form(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group())
