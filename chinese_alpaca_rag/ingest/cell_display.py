"""A spreadsheet cell's value as the person who looks at the sheet sees it."""

from __future__ import annotations

import datetime
import math
import re

_QUOTED = re.compile(r'"([^"]*)"|\\(.)|\[\$([^-\]]*)[^\]]*\]')
_NOT_SHOWN = re.compile(r"_.|\*.|\[[^\]]*\]")
_PLACEHOLDERS = re.compile(r"[0#?][0#?,.]*(?:[eE][+-]0+)?%?")


def shown(value: object, number_format: str | None = None) -> str:
    """``value`` as text: dates in ISO form, numbers without binary noise, with percent sign and unit.

    Digits are never rounded away: a sheet that shows 3.14 for 3.14159 holds 3.14159.
    """
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return _number(value, (number_format or "General").split(";")[0])
    return "" if value is None else _moment(value)


def _number(value: float, number_format: str) -> str:
    if number_format in ("General", "@", ""):
        return _plain(value)
    bare = _NOT_SHOWN.sub("", _QUOTED.sub("", number_format))
    digits = _plain(value * 100) + "%" if "%" in bare else _plain(value)
    if re.fullmatch(r"0{2,}", bare) and isinstance(value, int) and value >= 0:
        digits = str(value).zfill(len(bare))
    # Text around the digits, such as a currency sign or a unit: ¥#,##0.00, 0"天".
    literal = _NOT_SHOWN.sub("", _QUOTED.sub(lambda match: "\0".join(("", *_characters(match), "")), number_format))
    around = _PLACEHOLDERS.split(literal.replace("%", ""), maxsplit=1)
    if len(around) != 2 or _PLACEHOLDERS.search(around[1]):
        return digits
    before, after = (_literal(part) for part in around)
    return f"{before}{digits}{after}"


def _characters(match: re.Match[str]) -> list[str]:
    return list(match.group(1) or match.group(2) or match.group(3) or "")


def _literal(part: str) -> str:
    """The characters of a format's part that are shown as they stand: quoted ones and currency signs."""
    pieces = part.split("\0")
    quoted = "".join(pieces[1:-1]) if len(pieces) > 2 else ""
    signs = "".join(sign for sign in pieces[0] + (pieces[-1] if len(pieces) > 1 else "") if sign in "¥￥$€£")
    return (signs + quoted).strip() or ""


def _plain(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    # 15 significant digits are what a spreadsheet keeps; Python would write 1e-05 for 0.00001.
    text = f"{value:.15g}"
    if "e" in text and abs(value) >= 1e-9:
        text = f"{value:.15f}".rstrip("0").rstrip(".") if abs(value) < 1 else text
    return text


def _moment(value: object) -> str:
    """A date, a time of day, a duration; anything else in its own words."""
    if isinstance(value, datetime.datetime):
        if value.time() == datetime.time():
            return value.date().isoformat()
        return value.replace(microsecond=0).isoformat(sep=" ").removesuffix(":00")
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    return str(value)


def _duration(value: datetime.timedelta) -> str:
    seconds = round(value.total_seconds())
    sign = "-" if seconds < 0 else ""
    hours, rest = divmod(abs(seconds), 3600)
    return f"{sign}{hours}:{rest // 60:02d}:{rest % 60:02d}"
