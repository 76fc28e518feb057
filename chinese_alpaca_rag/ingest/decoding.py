"""Bytes to text: the whole file, strictly, in the encoding that the evidence is for.

The order of evidence: a byte order mark; UTF-8 when every byte agrees; then the reading of the bytes
that is likeliest to be written text, among UTF-16, GB18030 (with GBK and GB 2312 in it), Big5 (with code
page 950 and HKSCS), Japanese, Korean and Western encodings. Nothing is ever ignored or replaced.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chinese_alpaca_rag.errors import DocumentRefusedError, WrongUsageError
from chinese_alpaca_rag.ingest.big5 import decode_big5
from chinese_alpaca_rag.ingest.likelihood import ANY, Language, foreign_mean, log_likelihood
from chinese_alpaca_rag.language import Words

_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_WIDE = ("utf-16-le", "utf-16-be")
# Each codec with the languages that are written in it.
_CANDIDATES: dict[str, tuple[Language, ...]] = {
    "utf-16-le": ANY,
    "utf-16-be": ANY,
    "gb18030": ("zh",),
    "big5": ("zh",),
    "cp932": ("ja",),
    "euc_jp": ("ja",),
    "cp949": ("ko",),
    "cp1252": ("western",),
}
# Few files are UTF-16 without a byte order mark; it must be likelier by this much, in nats.
_WIDE_HANDICAP = 6.0
# What web pages and users call an encoding, against the codec that reads all that is found under the name.
_SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp950": "big5",
    "big5hkscs": "big5",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
}
# Codecs of Python's that turn text into text, or refuse everything: no file is written in them.
_NOT_WRITTEN = frozenset(("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7"))
# Below this mean log-likelihood of the characters outside ASCII, no written language has been found. Rare
# Chinese characters are still Chinese; the other languages are believed only when they read well.
_NOT_WRITING = {"zh": -17.5, "other": -10.5}
# So many bytes have to read well before a last character that is cut is believed to be one.
_LEAST_BEFORE_CUT = 16
# A file is a damaged one of an encoding where so little of what it holds outside ASCII cannot be read in it.
_DAMAGED_SHARE = 0.02
_DAMAGED_LEAST = 32
_DAMAGE = 30.0
_WINDOW = 1 << 16
_WINDOWS = 4
_FOREIGN = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True)
class Decoded:
    """A text with the name of the codec that reads it.

    ``confidence`` is the probability, between 0 and 1, of this encoding against the next best under the
    model of :mod:`~chinese_alpaca_rag.ingest.likelihood`; 1.0 where there is proof. ``cut_bytes`` counts
    the bytes of a last character that the file does not hold whole, which ``text`` is without.
    """

    text: str
    encoding: str
    confidence: float
    cut_bytes: int = 0


def decode(data: bytes, *, encoding: str | None = None, declared: str | None = None) -> Decoded:
    """The text of ``data``.

    ``encoding`` is the user's word and is followed strictly; ``declared`` is what the file says of itself
    (as HTML does) and is believed unless the bytes speak against it. Raises DocumentRefusedError for
    binary data and for bytes that no encoding explains, WrongUsageError for an unknown ``encoding``.
    """
    if encoding is not None:
        return _decode_as(data, encoding)
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _finish(data[len(mark) :], codec, confidence=1.0)
    if not data:
        return Decoded("", "utf-8", 1.0)
    return _decode_utf32(data) or _decode_utf8(data) or _decode_likeliest(data, declared)


def codec_name(encoding: str) -> str:
    """Python's name for ``encoding``; WrongUsageError when it is not the name of a text encoding."""
    try:
        information = codecs.lookup(encoding.strip())
        "".encode(information.name)
    except (LookupError, ValueError):
        raise WrongUsageError(
            Words(zh=f"没有名为 {encoding!r} 的文字编码。", en=f"There is no text encoding named {encoding!r}."),
            hint=Words(
                zh="可用的例子：utf-8、gb18030、big5、utf-16。", en="Examples that work: utf-8, gb18030, big5, utf-16."
            ),
        ) from None
    return information.name


def _decode_as(data: bytes, encoding: str) -> Decoded:
    codec = codec_name(encoding)
    for mark, name in _MARKS:
        if data.startswith(mark) and codecs.lookup(name).name in (codec, f"{codec}-le", f"{codec}-be"):
            return _finish(data[len(mark) :], name, confidence=1.0)
    try:
        return Decoded(data.decode(codec), codec, 1.0)
    except UnicodeError as error:
        raise _undecodable(codec, error) from None


def _decode_utf32(data: bytes) -> Decoded | None:
    """The text as UTF-32 without a byte order mark. Of four random bytes one in four thousand could be a character."""
    if len(data) % 4 or len(data) < 8 or b"\0" not in data[:8]:
        return None
    for codec in ("utf-32-le", "utf-32-be"):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        if not re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", text):
            return Decoded(text, codec, 1.0)
    return None


def _decode_utf8(data: bytes) -> Decoded | None:
    """The text as UTF-8, or None where that is not so or where a few characters agree only by accident."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.reason == "unexpected end of data" and error.start >= _LEAST_BEFORE_CUT:
            text = data[: error.start].decode("utf-8")
            return Decoded(text, "utf-8", 1.0, cut_bytes=len(data) - error.start)
        if _damaged_utf8(data):
            raise _undecodable("utf-8", error) from None
        return None
    if text.isascii() and "~{" in text and "~}" in text:
        return _decode_hz(data, text)
    controls = len(re.findall(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", text))
    if controls and (controls > 0.01 * len(text) or "\0" in text):
        return None
    if _accidental_utf8(data, text):
        return None
    return Decoded(text, "utf-8", 1.0)


def _damaged_utf8(data: bytes) -> bool:
    """Whether nearly everything is UTF-8, so that another encoding could only make nonsense of it."""
    text = b"".join(_samples(data, wide=False)).decode("utf-8", errors="replace")
    foreign = len(text) - sum(map(text.count, map(chr, range(0x80))))
    return foreign >= 8 and text.count("\ufffd") <= 0.1 * foreign


def _decode_hz(data: bytes, text: str) -> Decoded:
    """HZ, the seven-bit form of GB 2312, where the marked stretches read as Chinese."""
    try:
        chinese = data.decode("hz")
    except UnicodeDecodeError:
        return Decoded(text, "utf-8", 1.0)
    mean = foreign_mean(chinese)
    return Decoded(chinese, "hz", 0.95) if mean is not None and mean > -10.0 else Decoded(text, "utf-8", 1.0)


def _accidental_utf8(data: bytes, text: str) -> bool:
    """Whether a handful of characters are far likelier to be GBK than what UTF-8 makes of them.

    "一" in GBK is also a valid (and rare) Cyrillic letter in UTF-8. Every third GB 2312 character has
    such bytes, so a text of more than a few different characters cannot agree with UTF-8 by accident. Western
    letters (é) are left alone: they do stand in short UTF-8 texts.
    """
    foreign = {character for character in set(text) if character > "\x7f"}
    if not 0 < len(foreign) <= 8 or any(character <= "\xff" for character in foreign):
        return False
    try:
        chinese = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    common = all(log_likelihood(character) > -10.0 for character in chinese if character > "\x7f")
    return common and log_likelihood(chinese) > log_likelihood(text) + 3.0


def _decode_likeliest(data: bytes, declared: str | None) -> Decoded:
    """The likeliest reading of bytes that are not UTF-8."""
    readings = sorted(_readings(data, declared), reverse=True)
    _refuse_damaged(data, readings[0][0] if readings else None)
    if not readings:
        raise _no_encoding(data)
    best, codec = readings[0]
    margin = best - readings[1][0] if len(readings) > 1 else 50.0
    return _finish(data, codec, confidence=1.0 / (1.0 + math.exp(-min(margin, 50.0))))


def _refuse_damaged(data: bytes, best: float | None) -> None:
    """Raise for a Chinese text with a few bad bytes, rather than read all of it as something else.

    ``best`` is the log-likelihood of the best reading without any; each bad byte costs the damaged one _DAMAGE.
    """
    sample = b"".join(_samples(data, wide=False))
    for codec in ("gb18030", "big5hkscs"):
        text = sample.decode(codec, errors="replace")
        bad = text.count("\ufffd")
        foreign = len(text) - sum(map(text.count, map(chr, range(0x80))))
        if not bad or foreign < _DAMAGED_LEAST or bad > _DAMAGED_SHARE * foreign:
            continue
        plain = text.replace("\ufffd", "")
        mean = foreign_mean(plain, ("zh",))
        if mean is None or mean < _NOT_WRITING["other"]:
            continue
        if best is None or log_likelihood(plain, ("zh",)) - bad * _DAMAGE > best:
            try:
                data.decode(codec)
            except UnicodeDecodeError as error:
                if error.end < len(data):
                    raise _undecodable(codec, error) from None


def _readings(data: bytes, declared: str | None) -> Iterator[tuple[float, str]]:
    """The log-likelihood of a sample of the data as each codec reads it, where what it reads can be writing."""
    preferred = _SUPERSETS.get(name := _known(declared), name)
    narrow = b"".join(_samples(data, wide=False))
    wide = b"".join(_samples(data, wide=True)) if len(data) % 2 == 0 else b""
    candidates = _CANDIDATES if not preferred or preferred in _CANDIDATES else {**_CANDIDATES, preferred: ANY}
    for codec, languages in candidates.items():
        sample = wide if codec in _WIDE else narrow
        text = _decode_sample(sample, codec) if sample else None
        mean = foreign_mean(text, languages) if text else None
        least = _NOT_WRITING["zh" if "zh" in languages else "other"]
        if not text or "\0" in text or (mean < least if mean is not None else codec not in _WIDE):
            continue
        likelihood = log_likelihood(text, languages)
        if codec == preferred:
            likelihood += 12.0 + 0.05 * len(narrow)
        elif codec in _WIDE:
            # The two samples differ in length for large files only.
            likelihood = likelihood * len(narrow) / len(wide) - _WIDE_HANDICAP
        yield likelihood, codec


def _known(declared: str | None) -> str:
    """Python's name for the encoding that a file says it has; "" where it is none that text is written in."""
    try:
        name = codec_name(declared) if declared else ""
    except WrongUsageError:
        return ""
    return "" if name in _NOT_WRITTEN else name


def _samples(data: bytes, *, wide: bool) -> Iterator[bytes]:
    """The data, or for a large file stretches of it that lie apart and hold bytes outside ASCII.

    A stretch begins behind a line feed, which is never part of a longer character in these encodings;
    one for UTF-16 begins at an even offset.
    """
    if len(data) <= _WINDOW * _WINDOWS:
        yield data
        return
    step = len(data) // _WINDOWS
    for window in range(_WINDOWS):
        start = window * step
        if wide:
            start -= start % 2
        elif foreign := _FOREIGN.search(data, start):
            start = data.rfind(b"\n", 0, foreign.start()) + 1
            if window and start < window * step:
                continue  # a line that is longer than a stretch: only its beginning is a safe place to begin
        else:
            continue
        yield data[start : start + _WINDOW]


def _decode_sample(sample: bytes, codec: str) -> str | None:
    """The sample as text, its last character possibly cut; None where the codec does not read it."""
    if codec == "big5":
        return _decode_sample(sample, "cp950") or _decode_sample(sample, "big5hkscs")
    decoder = codecs.getincrementaldecoder(codec)("strict")
    try:
        return decoder.decode(sample, final=False)
    except UnicodeDecodeError:
        return None


def _finish(data: bytes, codec: str, *, confidence: float) -> Decoded:
    """Decode all of ``data``, allowing only that the file ends inside its last character."""
    try:
        return Decoded(*_decode_whole(data, codec), confidence)
    except UnicodeDecodeError as error:
        cut = len(data) - error.start
        at_the_end = error.end == len(data) and ("incomplete" in error.reason or "truncated" in error.reason)
        if not at_the_end or cut > 3 or error.start < _LEAST_BEFORE_CUT:
            raise _undecodable(codec, error) from None
        return Decoded(*_decode_whole(data[: error.start], codec), confidence, cut)


def _decode_whole(data: bytes, codec: str) -> tuple[str, str]:
    return decode_big5(data) if codec == "big5" else (data.decode(codec), codec)


def _undecodable(codec: str, error: UnicodeError) -> DocumentRefusedError:
    place = error.start if isinstance(error, UnicodeDecodeError) else 0
    return DocumentRefusedError(
        Words(
            zh=f"文件不是完整的 {codec} 文本：第 {place} 个字节处无法解码。",
            en=f"The file is not whole {codec} text: it cannot be decoded at byte {place}.",
        ),
        hint=Words(
            zh="如果编码是另一种，请用 --encoding 指明；否则文件已损坏，请重新保存。",
            en="If the encoding is another one, name it with --encoding; otherwise the file is damaged: save it again.",
        ),
    )


def _no_encoding(data: bytes) -> DocumentRefusedError:
    if 0 in data:
        return DocumentRefusedError(
            Words(zh="文件内容是二进制数据，不是文本。", en="The file holds binary data, not text."),
            hint=Words(
                zh="请确认文件的扩展名与内容一致。", en="Check that the file's name ends the way its content asks for."
            ),
        )
    return DocumentRefusedError(
        Words(
            zh="无法判断文件的文字编码：没有一种编码能读出通顺的文字。",
            en="The file's encoding cannot be told: none makes written language of its bytes.",
        ),
        hint=Words(
            zh="请用 --encoding 指明编码，例如 --encoding gb18030。",
            en="Name it with --encoding, for example --encoding gb18030.",
        ),
    )
