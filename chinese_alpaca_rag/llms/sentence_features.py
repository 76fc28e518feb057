"""What can be counted of a sentence that may answer a question.

Word overlap in several lights: weighed by how rare a term is among the sources at hand and within its own
source, by how near it stands to the question word, and without the question's lead, which names its subject
and so stands in other sentences too; whether the sentence holds what the kind of question asks for; what
stands above it. A feature is here because leaving it out, alone or with its like, costs right answers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chinese_alpaca_rag.llms.interface import SourceText
from chinese_alpaca_rag.llms.numerals import numbers_in
from chinese_alpaca_rag.llms.question_form import bare, look_at, without_function_words
from chinese_alpaca_rag.sentences import sentence_spans
from chinese_alpaca_rag.words import pieces, plain, word_forms

LONGEST_QUOTE = 150  # characters
LONGEST_STRETCH = 300
_LONGEST_LEAD = 12  # characters
_LONGEST_ASKED = 1_000  # characters: of a longer question all words count, but the order of these only
_ENOUGH_WORDS = 40
_HEADING = 24  # characters
_NEAR = 2.0  # characters from the question word in which a term's weight falls to 1/e
_FAR = 9  # characters: where a term is taken to stand that is written otherwise in the question
_NUMERAL = "[\\d一二三四五六七八九十百千万亿两]"
_DATE = re.compile(
    "\\d{3,4}年|\\d+世纪|[〇零一二三四五六七八九十]{2,}年|\\d+月|[一二三四五六七八九十]月|年代|\\d+日|民国|公元"
    "|[一二三四五六七八九十元]年|\\d{4}[-/]\\d|(?:1[5-9]|20)\\d\\d|朝|时期|\\d:\\d\\d|\\d点"
)
_DIGITS = re.compile(r"\d+")
_DURATION = re.compile(
    f"{_NUMERAL}+(?:多|余|个半?)?(?:年|天|日|周|个?月|小时|分钟|秒|星期|季度)|\\d+ (?:year|month|week|day|hour|minute)"
)
_PLACE = re.compile("[省市县区州国镇乡村岛港湾山河湖海路街楼]|位于|坐落|地处|在")
_REASON = re.compile("因为|由于|因此|所以|为了|原因|导致|以致|故|因而|使得|鉴于|因|because|since|due to|therefore")
_PERSON = re.compile("·|[王皇帝后]|先生|女士|教授|博士|人|由|被|师|者|员|长|子|[a-z]+ [a-z]+")
_PRONOUN = re.compile("[他她它其该此这本]")
_PUNCTUATED = re.compile(r"[。！？!?；;…|\t,、]|.:|\.$")
_COMPLETE = re.compile(r"[。！？!?.；;…][”’」』）】》)\]\"']*$")
_ROW = re.compile(r"[|\t]")
_FEW = 3  # sentences
_KEYED = re.compile(r"[：:]\s*\S")
_NAME_OR_YEAR = re.compile(r"(?:19|20)\d\d|[a-z]+-?[a-z]*\d+")
_CODE = re.compile(r"(?=[^\d]*\d)(?=\d*[^\W\d])")  # digits and letters
_CLAUSE_END = re.compile(r"[；;][”’」』）】》)\]\"']*$")
_QUESTION_END = re.compile(r"[?？][”’」』）】》)\]\"']*$")


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence of ``sources[source]``, ``text[start:end]``, with its terms; ``plain`` is ``words.plain``."""

    source: int
    start: int
    end: int
    plain: str
    letters: str
    characters: frozenset[str]
    words: frozenset[str]
    marks: frozenset[str]

    @property
    def is_question(self) -> bool:
        """Whether it asks, as the questions of a FAQ do."""
        return _QUESTION_END.search(self.plain) is not None

    @property
    def opens_with_pronoun(self) -> bool:
        """Whether its first word is 他, 该, 此 or the like."""
        return _PRONOUN.match(self.letters) is not None

    @property
    def is_complete(self) -> bool:
        """Whether it ends as sentences do and is no row of a table."""
        return _COMPLETE.search(self.plain) is not None and not self.is_row

    @property
    def is_row(self) -> bool:
        """Whether it is a row of a table, its cells parted by tabs or bars."""
        return _ROW.search(self.plain) is not None

    @property
    def is_heading(self) -> bool:
        """Whether it is short and nothing in it is punctuated as in a sentence, a list or a table."""
        return len(self.letters) <= _HEADING and not _PUNCTUATED.search(self.plain)


def quotable_spans(text: str) -> Iterator[tuple[int, int]]:
    """The sentences of ``text`` as one would quote them: whole, their clauses up to ``；`` together, but none too long.

    A sentence of more than LONGEST_QUOTE characters is given clause by clause, and a clause of more, as in a text
    without punctuation, in stretches.
    """
    clauses: list[tuple[int, int]] = []
    for start, end in sentence_spans(text):
        if clauses and not (_CLAUSE_END.search(text, *clauses[-1]) and "\n" not in text[clauses[-1][1] : start]):
            yield from _together(clauses, text)
            clauses = []
        clauses.append((start, end))
    yield from _together(clauses, text)


def _together(clauses: Sequence[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    if clauses and clauses[-1][1] - clauses[0][0] <= LONGEST_QUOTE:
        yield clauses[0][0], clauses[-1][1]
        return
    for clause_start, end in clauses:
        start = clause_start
        while end - start > LONGEST_STRETCH:
            cut = _cut(text, start + LONGEST_STRETCH // 2, start + LONGEST_STRETCH)
            yield start, cut
            start = cut
        yield start, end


def _cut(text: str, start: int, end: int) -> int:
    """The offset behind the last mark between ``start`` and ``end`` that a stretch may end with, or ``end``."""
    return max(text.rfind(mark, start, end) for mark in "，、,|：: ") + 1 or end


def sentences_of(sources: Sequence[SourceText]) -> list[list[Sentence]]:
    """The sentences of each source; one that stands in several is kept once."""
    seen: set[str] = set()
    found: list[list[Sentence]] = []
    for index, source in enumerate(sources):
        row: list[Sentence] = []
        for start, end in quotable_spans(source.text):
            text = plain(source.text[start:end])
            letters = bare(text)
            if letters and letters not in seen:
                seen.add(letters)
                characters, words, marks = terms_of(text)
                row.append(Sentence(index, start, end, text, letters, characters, words, marks))
        found.append(row)
    return found


def terms_of(plain_text: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Of ``words.plain`` text: its single Chinese characters, its character pairs and words, and its marks.

    Marks are numbers, in Arabic digits however they are written, and codes such as ``zx-200``: a sentence that
    says another number speaks of something else. Where a word and Chinese touch they make a pair, and so do a
    number and what follows it: the 10年 of 满10年 and of 满十年.
    """
    characters: set[str] = set()
    words: set[str] = set()
    codes: set[str] = set()
    last_run = ""
    for run, word, touches in pieces(plain_text):
        if run:
            characters.update(run)
            words.update(map(str.__add__, run, run[1:]))
        else:
            forms = word_forms(word)
            words.update(forms)
            if _CODE.match(word):
                codes.add(forms[0])
            if touches and last_run:
                words.add(last_run[-1] + word)
        last_run = run
    numbers: set[str] = set()
    for number, end in numbers_in(plain_text):
        numbers.add(number)
        words.add(number)
        if end < len(plain_text) and plain_text[end].isalnum():
            words.add(number + plain_text[end])
    return frozenset(characters), frozenset(words), frozenset(numbers | codes)


def rarity(rows: Collection[Iterable[str]]) -> dict[str, float]:
    """The inverse document frequency, as Lucene's BM25 has it, of each term over ``rows``."""
    frequency = Counter(term for row in rows for term in row)
    return {term: math.log1p((len(rows) - count + 0.5) / (count + 0.5)) for term, count in frequency.items()}


class QuestionFeatures:
    """The features of the sentences of some sources for one question."""

    def __init__(self, question: str, sources: Sequence[SourceText]) -> None:
        self.form = look_at(question)
        self._characters, self._words, self._marks = terms_of(self.form.content)
        self._rows = sentences_of(sources)
        self._rare_codes = self._find_rare_codes()
        self._held = {sentence: self._terms_held(sentence) for row in self._rows for sentence in row}
        self._held_by_source = [frozenset[str]().union(*map(self._held.__getitem__, row)) for row in self._rows]
        self._weights = rarity(list(self._held.values()))
        self._asked = self.form.letters[:_LONGEST_ASKED]
        # How much of the question's beginning, which mostly names its subject, stands in each source.
        letters = (" ".join(sentence.letters for sentence in row) for row in self._rows)
        self._leads = [_common_lead(self._asked, text) for text in letters]
        self._lights = self._make_lights()

    def coverage(self) -> float:
        """How much of what the question says the best source holds, from 0 to 1: its words by rarity.

        A word that stands nowhere weighs most. Function words say nothing, and so do single characters, unless
        they are words by themselves: 蓍 in 蓍的别名. Of a long question _ENOUGH_WORDS need to be held, not all.
        """
        content = without_function_words(self.form.content)
        terms = {run for run, _, _ in pieces(content) if len(run) == 1} | terms_of(content)[1]
        unheard = math.log1p((len(self._held) + 0.5) / 0.5)
        weights = {term: self._weights.get(term, unheard) for term in terms}
        whole = min(sum(weights.values()), _ENOUGH_WORDS * unheard)
        return min(
            1.0, max((_share(weights, terms & held) / whole for held in self._held_by_source if whole), default=0.0)
        )

    def all(self) -> list[tuple[Sentence, dict[str, float]]]:
        """Every sentence with its features, in order."""
        found: list[tuple[Sentence, dict[str, float]]] = []
        for row, of_source in zip(self._rows, self._source_features(), strict=True):
            found += self._row_features(row, of_source)
        return found

    def _find_rare_codes(self) -> frozenset[str]:
        """The codes of the question that few sentences hold: E22 of a table of errors, not the product's own name."""
        codes = {mark for mark in self._marks if _CODE.match(mark)}
        held = Counter(code for row in self._rows for sentence in row for code in codes & sentence.marks)
        return frozenset(code for code, count in held.items() if count <= _FEW)

    def _terms_held(self, sentence: Sentence) -> frozenset[str]:
        return (sentence.characters & self._characters) | (sentence.words & self._words)

    def _make_lights(self) -> dict[str, dict[str, float]]:
        """The question's words as different features weigh them; the weights of each add up to 1."""
        words = {term: self._weights[term] for term in self._words & self._weights.keys()}
        places = {term: _places(term, self._asked) for term in words}
        lead = max(self._leads, default=0)
        near = {
            term: weight * math.exp(-min(self._distances(term, places[term]), default=_FAR) / _NEAR)
            for term, weight in words.items()
        }
        behind = {term: weight for term, weight in words.items() if any(place >= lead for place in places[term])}
        return {"words": _normal(words), "words_near": _normal(near), "words_behind_lead": _normal(behind)}

    def _distances(self, term: str, places: Iterable[int]) -> Iterator[int]:
        """Characters between the question word and a term at ``places`` of the question's letters."""
        for place in places:
            yield max(0, self.form.word_start - place - len(term), place - self.form.word_end)

    def _source_features(self) -> list[dict[str, float]]:
        """What the sources hold of the question as wholes, in comparison with each other."""
        weights = _normal(rarity(self._held_by_source))
        most = max([1, *self._leads])
        return [
            {"source_terms": _share(weights, terms), "source_lead": lead / most}
            for terms, lead in zip(self._held_by_source, self._leads, strict=True)
        ]

    def _row_features(
        self, row: Sequence[Sentence], of_source: dict[str, float]
    ) -> Iterator[tuple[Sentence, dict[str, float]]]:
        local = rarity([self._held[sentence] for sentence in row])
        local = {term: weight * self._weights[term] for term, weight in local.items()}
        local_words = _normal({term: local[term] for term in self._words & local.keys()})
        local_characters = _normal({term: local[term] for term in self._characters & local.keys()})
        shares = [_share(self._lights["words"], self._held[sentence]) for sentence in row]
        heading = 0.0
        for position, sentence in enumerate(row):
            held = self._held[sentence]
            before = shares[position - 1] if position else 0.0
            features = {
                **of_source,
                **{name: _share(light, held) for name, light in self._lights.items()},
                "local_words": _share(local_words, held),
                "local_characters": _share(local_characters, held),
                "words_before": before,
                "words_above": max(shares[:position], default=0.0),
                "heading_above": heading,
                "question_before": before if position and row[position - 1].is_question else 0.0,
                "head_row": float(_is_head_row(row, position)),
            }
            features.update(self._form_features(sentence))
            features.update(self._kind_features(sentence))
            if sentence.is_heading:
                heading = shares[position]
            yield sentence, features

    def _form_features(self, sentence: Sentence) -> dict[str, float]:
        """How the sentence is made, and which stretches and marks of the question stand in it."""
        letters, asked, after = sentence.letters, self._asked, self.form.after
        right = next((n for n in range(min(8, len(after)), 0, -1) if after[:n] in letters), 0)
        return {
            "after": right / 8,
            "longest": _longest_common(asked, letters) / max(1, len(asked)),
            "marks": len(self._marks & sentence.marks) / max(1, len(self._marks)),
            "codes": float(bool(self._rare_codes & sentence.marks)),
            "new_characters": math.log1p(len(sentence.characters - self._characters)),
            "pronoun": float(sentence.opens_with_pronoun),
            "is_question": float(sentence.is_question),
            "is_heading": float(sentence.is_heading),
        }

    def _kind_features(self, sentence: Sentence) -> dict[str, float]:
        """Whether the sentence holds what the kind of question asks for, and the question does not say itself."""
        form, text, kinds = self.form, sentence.plain, self.form.kinds
        date = "time" in kinds and any(found not in form.text for found in _DATE.findall(text))
        number = "number" in kinds and any(found not in self._marks for found in _DIGITS.findall(text))
        return {
            "time": float(date),
            "number": float(number),
            "unit": float(bool(form.unit) and re.search(f"{_NUMERAL}个?{form.unit}", text) is not None),
            "duration": float("duration" in kinds and bool(_DURATION.search(text))),
            "person": float("person" in kinds and bool(_PERSON.search(text))),
            "place": float("place" in kinds) * min(3, len(_PLACE.findall(text))) / 3,
            "reason": float("reason" in kinds and bool(_REASON.search(text))),
            "list": float("list" in kinds) * min(4, text.count("、")) / 4,  # commas as well, in plain text
            "manner_size": float("manner" in kinds) * math.log1p(len(sentence.letters)),
        }


def _is_head_row(row: Sequence[Sentence], position: int) -> bool:
    """Whether the sentence is the head row of a table, or a page's running head, which looks like one.

    It names columns, or the document: the only numbers in it are years and those of codes.
    """
    sentence = row[position]
    if not sentence.is_row or (position and row[position - 1].is_row) or _KEYED.search(sentence.plain):
        return False
    followed = position + 1 < len(row) and row[position + 1].is_row
    return (followed or position == 0) and not _DIGITS.search(_NAME_OR_YEAR.sub("", sentence.plain))


def _share(weights: Mapping[str, float], terms: Iterable[str]) -> float:
    return sum(weights[term] for term in terms if term in weights)


def _normal(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {term: weight / total for term, weight in weights.items()}


def _places(term: str, letters: str) -> list[int]:
    """Where ``term`` stands in ``letters``."""
    found = []
    place = letters.find(term)
    while place >= 0:
        found.append(place)
        place = letters.find(term, place + 1)
    return found


def _common_lead(asked: str, text: str) -> int:
    """How many of the first characters of ``asked`` stand together in ``text``."""
    length = 0
    while length < min(len(asked), _LONGEST_LEAD) and asked[: length + 1] in text:
        length += 1
    return length


def _longest_common(asked: str, text: str) -> int:
    """The length of the longest stretch of ``asked`` that stands in ``text``."""
    longest = 0
    for start in range(len(asked)):
        while start + longest < len(asked) and asked[start : start + longest + 1] in text:
            longest += 1
    return longest
