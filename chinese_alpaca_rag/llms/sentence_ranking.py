"""Which sentence of some sources answers a question: features of each sentence, and one weight for each feature.

The features are word overlap in several lights (weighed by how rare a term is among the sources at hand,
and how rare within its own source), what stands beside the question word, and whether the sentence holds
what the kind of question asks for. ``WEIGHTS`` were fitted by ``benchmarks/fit_sentence_weights.py``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.question_form import QuestionForm, bare, look_at
from chinese_alpaca_rag.sentences import sentence_spans
from chinese_alpaca_rag.words import pieces, plain, word_forms

_NUMERAL = "[\\d一二三四五六七八九十百千万亿两]"
_DATE = re.compile(
    "\\d{3,4}年|\\d+世纪|[〇零一二三四五六七八九十]{2,}年|\\d+月|[一二三四五六七八九十]月|年代|\\d+日|民国|公元"
    "|[一二三四五六七八九十元]年|\\d{4}[-/]\\d|(?:1[5-9]|20)\\d\\d|朝|时期|\\d:\\d\\d|\\d点"
)
_DIGITS = re.compile(r"\d+")
_COUNT = re.compile(_NUMERAL)
_DURATION = re.compile(
    f"{_NUMERAL}+(?:多|余|个半?)?(?:年|天|日|周|个?月|小时|分钟|秒|星期|季度)|\\d+ (?:year|month|week|day|hour|minute)"
)
_PLACE = re.compile("[省市县区州国镇乡村岛港湾山河湖海路街楼]|位于|坐落|地处|在")
_REASON = re.compile("因为|由于|因此|所以|为了|原因|导致|以致|故|因而|使得|鉴于|因|because|since|due to|therefore")
_PERSON = re.compile("·|[王皇帝后]|先生|女士|教授|博士|人|由|被|师|者|员|长|子|[a-z]+ [a-z]+")


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of ``sources[source]``: ``text[start:end]``. ``chance`` is the model's, among all sentences."""

    source: int
    start: int
    end: int
    chance: float


@dataclass(frozen=True)
class _Sentence:
    source: int
    start: int
    end: int
    text: str
    letters: str
    characters: frozenset[str]
    words: frozenset[str]


def rank_sentences(question: str, sources: Sequence[SourceText]) -> list[RankedSentence]:
    """The sentences of ``sources`` that share a term with ``question``, the likeliest answer first."""
    candidates = sentence_features(question, sources)
    if not candidates:
        return []
    scores = [sum(WEIGHTS[name] * value for name, value in features.items()) for _, features in candidates]
    best = max(scores)
    odds = [math.exp(score - best) for score in scores]
    total = sum(odds)
    ranked = sorted(zip(odds, candidates, strict=True), key=lambda pair: -pair[0])
    return [
        RankedSentence(source=sentence.source, start=sentence.start, end=sentence.end, chance=odd / total)
        for odd, (sentence, _) in ranked
    ]


def terms_of(plain_text: str) -> tuple[list[str], list[str]]:
    """Of ``words.plain`` text: its single Chinese characters, and its character pairs and other words.

    Where a word and Chinese touch, they make a pair as well: the 10年 of 满10年.
    """
    characters: list[str] = []
    words: list[str] = []
    last_word, last_run = "", ""
    for run, word, touches in pieces(plain_text):
        if run:
            characters += run
            words += map(str.__add__, run, run[1:])
            if touches and last_word:
                words.append(last_word + run[0])
        else:
            words += word_forms(word)
            if touches and last_run:
                words.append(last_run[-1] + word)
        last_word, last_run = word, run
    return characters, words


def sentences_of(sources: Sequence[SourceText]) -> list[list[_Sentence]]:
    """The different sentences of each source."""
    seen: set[str] = set()
    found: list[list[_Sentence]] = []
    for index, source in enumerate(sources):
        row: list[_Sentence] = []
        for start, end in sentence_spans(source.text):
            text = plain(source.text[start:end])
            letters = bare(text)
            if letters and letters not in seen:
                seen.add(letters)
                characters, words = terms_of(text)
                row.append(_Sentence(index, start, end, text, letters, frozenset(characters), frozenset(words)))
        found.append(row)
    return found


def sentence_features(question: str, sources: Sequence[SourceText]) -> list[tuple[_Sentence, dict[str, float]]]:
    """Every sentence with its features, none where no term of the question stands anywhere."""
    form = look_at(question)
    rows = sentences_of(sources)
    characters, words = map(frozenset, terms_of(form.content))
    if not characters and not words:
        characters, words = map(frozenset, terms_of(form.text))
    weights = _rarity([(s.characters & characters) | (s.words & words) for row in rows for s in row])
    all_words = sum(weights[term] for term in words if term in weights)
    all_characters = sum(weights[term] for term in characters if term in weights)
    if not all_words and not all_characters:
        return []
    covers = [
        _share(weights, words.intersection(*[frozenset().union(*(s.words for s in row))]), all_words)
        + 0.5 * _share(weights, characters & frozenset().union(*(s.characters for s in row)), all_characters)
        for row in rows
    ]
    best = max(covers)
    result: list[tuple[_Sentence, dict[str, float]]] = []
    for row, cover in zip(rows, covers, strict=True):
        local = _rarity([(s.characters & characters) | (s.words & words) for s in row])
        both = {term: weight * weights[term] for term, weight in local.items()}
        local_words = sum(both[term] for term in words if term in both)
        local_characters = sum(both[term] for term in characters if term in both)
        shares = [_share(weights, s.words & words, all_words) for s in row]
        for position, sentence in enumerate(row):
            features = {
                "source": cover,
                "source_of_best": cover / best,
                "source_is_best": float(cover == best),
                "words": shares[position],
                "characters": _share(weights, sentence.characters & characters, all_characters),
                "local_words": _share(both, sentence.words & words, local_words),
                "local_characters": _share(both, sentence.characters & characters, local_characters),
                "words_before": shares[position - 1] if position else 0.0,
                "words_after": shares[position + 1] if position + 1 < len(row) else 0.0,
                "words_above": max(shares[:position], default=0.0),
                "first": float(position == 0),
                "position": position / len(row),
                "short": float(len(sentence.letters) < 10),
                "new_characters": math.log1p(len(sentence.characters - characters)),
            }
            features.update(_question_word_features(form, sentence))
            features.update(_kind_features(form, sentence))
            result.append((sentence, features))
    return result


def _rarity(rows: Sequence[frozenset[str]]) -> dict[str, float]:
    """The inverse document frequency, as Lucene's BM25 has it, of each term over ``rows``."""
    frequency = Counter(term for row in rows for term in row)
    count = len(rows)
    return {term: math.log1p((count - n + 0.5) / (n + 0.5)) for term, n in frequency.items()}


def _share(weights: dict[str, float], terms: frozenset[str], total: float) -> float:
    return sum(weights[term] for term in terms if term in weights) / total if total else 0.0


def _question_word_features(form: QuestionForm, sentence: _Sentence) -> dict[str, float]:
    """How much of what stands left and right of the question word stands in the sentence, and the longest stretch."""
    letters = sentence.letters
    before = next((n for n in range(min(8, len(form.before)), 0, -1) if form.before[-n:] in letters), 0)
    after = next((n for n in range(min(8, len(form.after)), 0, -1) if form.after[:n] in letters), 0)
    asked = form.before + " " + form.after
    longest = 0
    for start in range(len(asked)):
        while start + longest < len(asked) and asked[start : start + longest + 1] in letters:
            longest += 1
    return {"before": before / 8, "after": after / 8, "longest": longest / max(1, len(asked) - 1)}


def _kind_features(form: QuestionForm, sentence: _Sentence) -> dict[str, float]:
    """Whether the sentence holds what the kind of question asks for, and more of it than the question itself does."""
    kinds, text = form.kinds, sentence.text
    asked_numbers = set(_DIGITS.findall(form.text))
    numbers = set(_DIGITS.findall(text))
    date = any(found not in form.text for found in _DATE.findall(text)) if "time" in kinds else False
    size = math.log1p(len(sentence.letters))
    return {
        "numbers": len(asked_numbers & numbers) / max(1, len(asked_numbers)),
        "time": float(date),
        "time_missing": float("time" in kinds and not date),
        "number": float("number" in kinds and bool(numbers - asked_numbers)),
        "count": float("number" in kinds and not numbers - asked_numbers and bool(_COUNT.search(text))),
        "unit": float(bool(form.unit) and re.search(f"{_NUMERAL}个?{form.unit[0]}", text) is not None),
        "duration": float("duration" in kinds and bool(_DURATION.search(text))),
        "person": float("person" in kinds and bool(_PERSON.search(text))),
        "place": float("place" in kinds) * min(3, len(_PLACE.findall(text))) / 3,
        "reason": float("reason" in kinds and bool(_REASON.search(text))),
        "list": float("list" in kinds) * min(4, text.count("、")) / 4,
        "list_size": float("list" in kinds) * size,
        "reason_size": float("reason" in kinds) * size,
        "manner_size": float("manner" in kinds) * size,
    }


WEIGHTS: dict[str, float] = {
    "source": 6.9,
    "source_of_best": 6.791,
    "source_is_best": 0.326,
    "words": -3.158,
    "characters": 1.455,
    "local_words": 3.274,
    "local_characters": 3.379,
    "words_before": 0.497,
    "words_after": 0.364,
    "words_above": -0.83,
    "first": -0.365,
    "position": -0.257,
    "short": -0.763,
    "new_characters": -0.295,
    "before": 1.24,
    "after": 2.955,
    "longest": -0.009,
    "numbers": 4.186,
    "time": 1.578,
    "time_missing": -0.906,
    "number": 2.199,
    "count": 0.95,
    "unit": 2.423,
    "duration": 7.636,
    "person": 1.161,
    "place": 2.417,
    "reason": 1.959,
    "list": 2.055,
    "list_size": 0.186,
    "reason_size": -0.069,
    "manner_size": 0.252,
}
