"""Holding an answer to its form while it is written: which ids may come next.

One engine serves every backend, because all of them sample by the same code from logits. The engine is
llguidance: it reads a JSON Schema and says which pieces of the vocabulary can go on.
"""

from __future__ import annotations

import json
import threading
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

import numpy as np
import numpy.typing as npt

from chinese_alpaca_rag.errors import StructuredOutputError
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.engine import llguidance
from chinese_alpaca_rag.llms.request import Constraint
from chinese_alpaca_rag.llms.schemas import check_schema, grammar_schema

Allowed = npt.NDArray[np.bool_]

# A character of no vocabulary: pieces before and after it never join.
_SEPARATOR: Final = "\ue000"


class Matcher:
    """The ids that may come next in one answer of the form ``constraint``. Not for two threads at once.

    ``rows`` is the length of a row of logits, which may be more than the vocabulary has pieces. Free text
    and JSON are told apart by the first characters, so that whichever begins is what the answer is.
    Raises ``WrongUsageError`` for a schema that cannot be held.
    """

    def __init__(self, constraint: Constraint, tokenizer: Tokenizer, rows: int) -> None:
        check_schema(constraint.schema)
        self._pieces = _pieces(tokenizer)
        self._rows = rows
        self._opening = constraint.opening.encode() if constraint.or_text else b""
        self._written = b""
        # Free text can still be chosen, was chosen, or is out of the question.
        self._undecided = constraint.or_text
        self._free = False
        self._ended = False
        self._at_start = True
        self._bits = np.zeros((tokenizer.vocabulary_size + 31) // 32, dtype=np.int32)
        grammar = _grammar(constraint, prefixed=self._pieces.prefixed)
        self._matcher: Any = llguidance().LLMatcher(self._pieces.engine, grammar, log_level=0)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether what was accepted so far has the form: it may end here."""
        return self._free or self._undecided or bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether nothing but the end may follow."""
        return self._ended or (not self._free and not self._undecided and bool(self._matcher.is_stopped()))

    def allowed(self) -> Allowed:
        """Which of the ``rows`` ids may come next; end ids only where the form is complete.

        Raises ``StructuredOutputError`` where nothing can follow: no text meets the schema.
        """
        mask = np.zeros(self._rows, dtype=np.bool_)
        within = mask[: self._pieces.size]
        if self._free:
            within[:] = self._pieces.texts[: len(within)]
        elif not self._ended and not self._matcher.is_stopped():
            within[:] = self._grammar_mask()[: len(within)]
            if self._at_start:
                within[self._pieces.kept_spaces] = False
            if self._undecided:
                within |= self._pieces.undecided(self._opening, len(self._written))[: len(within)]
        within[self._pieces.end_ids] = self.complete
        if not mask.any():
            raise _nowhere_to_go()
        return mask

    def accept(self, index: int) -> None:
        """Count ``index``, one of those allowed, in. Raises ``StructuredOutputError`` for another."""
        if self._ended:
            raise _not_allowed(index)
        if index in self._pieces.end_ids:
            if not self.complete:
                raise _not_allowed(index)
            self._ended = True
            return
        value = self._pieces.bytes[index] if 0 <= index < self._pieces.size else b""
        if self._undecided:
            self._decide(index, value)
        if not self._free and not self._matcher.consume_token(index):
            raise _not_allowed(index)
        self._at_start = self._at_start and not value

    def copy(self) -> Matcher:
        """Another matcher that stands where this one does."""
        other = object.__new__(Matcher)
        other.__dict__.update(self.__dict__)
        other._bits = self._bits.copy()
        other._matcher = self._matcher.deep_copy()
        return other

    def _decide(self, index: int, value: bytes) -> None:
        if self._at_start and self._pieces.drops_space(index):
            value = value[1:]
        written = self._written + value
        if written.startswith(self._opening):
            self._undecided = False
        elif not self._opening.startswith(written):
            self._undecided, self._free = False, True
        self._written = written

    def _grammar_mask(self) -> Allowed:
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        # End ids stand in it too: they are decided on outside of the grammar.
        return bits[: self._pieces.size].view(np.bool_) & self._pieces.texts

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _engine_failed(str(self._matcher.get_error()))


def _grammar(constraint: Constraint, *, prefixed: bool) -> str:
    """The grammar in llguidance's own Lark form; the space is the dummy prefix, which the decoder drops."""
    schema = json.dumps(grammar_schema(constraint.schema), ensure_ascii=False)
    prefix = '" "? ' if prefixed else ""
    return f"start: {prefix}json\njson: %json {schema}\n"


class _Pieces:
    """One tokenizer's vocabulary as the engine needs it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = ref(tokenizer)
        self.size = tokenizer.vocabulary_size
        self.bytes = tokenizer.piece_bytes
        self._control = tokenizer.control_ids
        self.end_ids = sorted(tokenizer.end_ids)
        self._spaced = [tokenizer.starts_with_space(index) for index in range(self.size)]
        self.prefixed = any(self._spaced)
        # A space of a byte piece at the start would be shown: the grammar's one space is the dummy prefix.
        self.kept_spaces = [
            index for index, value in enumerate(self.bytes) if value.startswith(b" ") and not self._spaced[index]
        ]
        self._undecided: dict[tuple[bytes, int], Allowed] = {}
        self.is_tokenizer_wrapper = True
        self.eos_token_id = tokenizer.eos_id
        self.bos_token_id = None
        self.special_token_ids = sorted(self._control)
        # Control pieces decode to nothing; the engine wants a name for each.
        self.tokens = [
            f"<|control {index}|>".encode() if index in self._control else value
            for index, value in enumerate(self.bytes)
        ]
        self.engine = llguidance().LLTokenizer(self)

    def __call__(self, text: str) -> list[int]:
        """The ids of ``text`` in the middle of an answer, where no dummy prefix is put before it."""
        tokenizer = self._tokenizer()
        if tokenizer is None:  # only an answer under way asks, and it holds the tokenizer
            return []
        if not self.prefixed:
            return tokenizer.encode(text)
        before, ids = tokenizer.encode(_SEPARATOR), tokenizer.encode(_SEPARATOR + text)
        return ids[len(before) :] if ids[: len(before)] == before else tokenizer.spell(text)

    @cached_property
    def texts(self) -> Allowed:
        """The ids that are text."""
        mask = np.ones(self.size, dtype=np.bool_)
        mask[self.special_token_ids] = False
        return mask

    def drops_space(self, index: int) -> bool:
        """Whether the piece's space is dropped at the start of an answer."""
        return self._spaced[index]

    def undecided(self, opening: bytes, position: int) -> Allowed:
        """The ids that may follow ``opening[:position]`` while free text is possible, and the grammar has no say.

        They go on with the opening in whatever pieces, or leave it; those that go beyond it are the grammar's.
        """
        key = (opening, position)
        if key not in self._undecided:
            rest = opening[position:]
            mask = self.texts.copy()
            for index, piece in enumerate(self.bytes):
                value = piece[1:] if position == 0 and self._spaced[index] else piece
                if not value or (len(value) > len(rest) and value.startswith(rest)):
                    mask[index] = False
            self._undecided[key] = mask
        return self._undecided[key]


_known: WeakKeyDictionary[Tokenizer, _Pieces] = WeakKeyDictionary()
_lock = threading.Lock()


def _pieces(tokenizer: Tokenizer) -> _Pieces:
    with _lock:
        pieces = _known.get(tokenizer)
        if pieces is None:
            pieces = _known[tokenizer] = _Pieces(tokenizer)
        return pieces


def _nowhere_to_go() -> StructuredOutputError:
    return StructuredOutputError(
        Words(zh="没有任何文本能满足这个 JSON Schema。", en="No text can meet this JSON Schema."),
        hint=Words(
            zh="检查互相矛盾的条件，以及没有终点的 $ref。",
            en="Look for bounds that contradict each other, and for a $ref that never ends.",
        ),
    )


def _not_allowed(index: int) -> StructuredOutputError:
    return StructuredOutputError(
        Words(zh=f"词元 {index} 不符合要求的格式。", en=f"The id {index} does not fit the form that was asked for."),
        hint=Words(zh="只能选择 allowed() 给出的词元。", en="Choose among the ids that allowed() gives."),
    )


def _engine_failed(reason: str) -> StructuredOutputError:
    line = reason.strip().splitlines()[0][:300] if reason.strip() else "?"
    return StructuredOutputError(
        Words(zh=f"无法按这个 JSON Schema 继续：{line}", en=f"This JSON Schema cannot be held any further: {line}"),
        hint=Words(zh="请简化这个 schema（正则表达式、分支）。", en="Simplify it: its patterns and its alternatives."),
    )
