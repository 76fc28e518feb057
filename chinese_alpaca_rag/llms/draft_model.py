"""A smaller model of the same vocabulary that guesses what a larger one will say: the family's 1.3B beside its 7B."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.family.preflight import in_gib
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.llms.backend import Backend, Logits, forgetting
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.drafting import NO_GUESS, Guess
from chinese_alpaca_rag.llms.headers import header
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.refusals import (
    draft_is_the_model,
    draft_of_another_format,
    draft_of_another_vocabulary,
    no_room_for_draft,
)
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.sampling import PENALISED_IDS, penalised
from chinese_alpaca_rag.llms.turns import Turns

if TYPE_CHECKING:
    from chinese_alpaca_rag.llms.local import LocalModel

_logger = logging.getLogger(__name__)
# What the draft itself thinks less likely is not worth evaluating.
_LEAST_PROBABILITY: Final = 0.35
# Reading a prompt may take so much of the time that the answer has taken already.
_SHARE_FOR_READING: Final = 0.1
# Tokens that are read to see how quickly the draft reads.
_SAMPLE: Final = 64


def open_as_draft(model: LocalModel, path: Path) -> LocalModel:
    """The checkpoint at ``path`` as a model that guesses for ``model``: opened as it is, with a window of its own.

    Reads both tokenizers. Raises ``WrongUsageError`` for one of another format or vocabulary, ``CheckpointError``.
    """
    checkpoint = header(path)
    if checkpoint.format != model.backend_format:
        raise draft_of_another_format(path, model.backend_format)
    options = {name: getattr(model, name) for name in (*model.loading_fields, *model.opening_fields)}
    if isinstance(options.get("device_map"), dict):
        # It names the layers of the larger model.
        options["device_map"] = None
    draft = model._opening_class().model_validate(
        {
            "model_path": path,
            "window": min(checkpoint.card.window, model.window),
            "prefix_store": model.prefix_store,
            **options,
        }
    )
    difference = _difference(model.tokenizer, draft.tokenizer)
    if difference is not None:
        raise draft_of_another_vocabulary(path, *difference)
    if draft._weights is model._weights or draft.model_path.resolve() == model.model_path.resolve():
        raise draft_is_the_model(path)
    return draft


def require_room_for_both(model: LocalModel, draft: LocalModel) -> None:
    """Raise ``NotEnoughMemoryError`` unless ``model`` and ``draft``, neither of them open, fit the memory together."""
    if draft._weights.backend is not None:
        return
    own, other = model._memory(), draft._memory()
    if own is None or other is None:
        return
    need, free = own[0].required + other[0].required, own[1]
    if free is not None and need > free:
        raise no_room_for_draft(in_gib(need), draft.model_name, in_gib(free))


def drafter_of(draft: LocalModel, request: Request, cancelled: Cancellation) -> ModelDrafter:
    """What lets ``draft`` guess the answer to ``request``."""
    weights = draft._weights
    return ModelDrafter(
        request,
        window=draft.window,
        bos_id=draft.tokenizer.bos_id,
        end_ids=draft.tokenizer.end_ids,
        turns=weights.turns,
        prefixes=draft._prefixes,
        pace=weights.pace,
        open_backend=draft._opened,
        cancelled=cancelled,
    )


def _difference(model: Tokenizer, draft: Tokenizer) -> tuple[str, object, object] | None:
    """In what two tokenizers differ: its name, and the two values; ``None`` where an id means the same to both."""
    if model is draft:
        return None
    for name in ("kind", "vocabulary_size", "bos_id", "end_ids", "control_ids"):
        one, other = getattr(model, name), getattr(draft, name)
        if one != other:
            return name, one, other
    pieces = zip(model.piece_bytes, draft.piece_bytes, strict=True)
    for index, (one, other) in enumerate(pieces):
        if one != other:
            return f"id {index}", one.decode("utf-8", "replace"), other.decode("utf-8", "replace")
    return None


class ModelDrafter:
    """See ``drafting.Drafter``. What a smaller model thinks likely enough, without drawing.

    It is used only while nobody else uses it, and never waited for. A prompt that does not fit its window beside
    the reply is given to it without its beginning, from a place that stays where it is during an answer. It reads
    a prompt only once that takes little of the time that the answer has taken already.
    """

    costly = True
    source = "draft model"

    def __init__(
        self,
        request: Request,
        *,
        window: int,
        bos_id: int,
        end_ids: Collection[int],
        turns: Turns,
        prefixes: Prefixes,
        pace: Pace,
        open_backend: Callable[[], Backend],
        cancelled: Cancellation,
    ) -> None:
        """``window`` in tokens; ``turns``, ``prefixes`` and ``pace`` are the draft's own."""
        self._request = request
        self._window = window
        self._prompt = prompt_for(request, window, bos_id)
        self._segments = request.segments if len(self._prompt) == len(request.ids) else ()
        self._end_ids = end_ids
        self._turns = turns
        self._prefixes = prefixes
        self._pace = pace
        self._open_backend = open_backend
        self._cancelled = cancelled
        self._begun = time.monotonic()
        self._not_before = 0.0
        # What it holds behind the prompt; of that, so many ids are the answer's for certain.
        self._held: list[int] | None = None
        self._certain = 0

    def get_ready(self) -> None:
        """See ``Drafter.get_ready``."""
        with self._turns.step_if_free(self) as undisturbed:
            if undisturbed is not None:
                self._open_backend()

    def guess(self, written: Sequence[int], most: int) -> Guess:
        """See ``Drafter.guess``. ``NO_GUESS`` itself where nothing was tried."""
        most = min(most, self._window - len(self._prompt) - len(written))
        if most < 1 or time.monotonic() < self._not_before:
            return NO_GUESS
        with self._turns.step_if_free(self) as undisturbed:
            if undisturbed is None:
                return NO_GUESS
            try:
                return self._guess(written, most, undisturbed)
            except ModelError as problem:
                _logger.warning("%s", problem)
                self._not_before = math.inf  # the answer needs no guesses
                return NO_GUESS

    def close(self) -> None:
        """See ``Drafter.close``."""
        self._turns.leave(self)

    def _guess(self, written: Sequence[int], most: int, undisturbed: bool) -> Guess:
        backend = self._open_backend()
        backend.watch(self._cancelled)
        with forgetting(backend):
            if not (self._catch_up if undisturbed else self._read)(backend, written):
                return NO_GUESS
            return Guess(self._continue(backend, written, most), self.source)

    def _read(self, backend: Backend, written: Sequence[int]) -> bool:
        """Hold prompt and answer, if that is no matter of long; whether it does."""
        self._held = None
        whole = [*self._prompt, *written]
        if self._pace.reading is None:
            self._timed_reading(backend, whole, min(_SAMPLE, len(whole) - 1))
        waiting = (len(whole) - backend.keep(whole)) * (self._pace.reading or 0.0)
        self._not_before = self._begun + waiting / _SHARE_FOR_READING
        if time.monotonic() < self._not_before or not self._timed_reading(backend, whole, len(whole)):
            return False
        self._certain = len(written)
        return True

    def _timed_reading(self, backend: Backend, ids: Sequence[int], end: int) -> bool:
        """Read ``ids`` to ``end``, and remember how long that took; whether it was not called off."""
        begun, before = time.perf_counter(), backend.evaluated
        reused = self._prefixes.prefill(backend, ids, self._segments, self._cancelled, end=end, patient=False)
        evaluated = backend.evaluated - before
        if reused is not None and evaluated >= _SAMPLE // 2:
            self._pace.reading = (time.perf_counter() - begun) / evaluated
        return reused is not None

    def _catch_up(self, backend: Backend, written: Sequence[int]) -> bool:
        """Hold ``written`` behind the prompt instead of what was guessed there; whether it does."""
        if self._held is None:
            return self._read(backend, written)
        # The last id is always evaluated anew: its logits are wanted.
        limit = min(len(self._held), len(written) - 1)
        agreed = min(self._certain, limit)
        while agreed < limit and self._held[agreed] == written[agreed]:
            agreed += 1
        if agreed < len(self._held):
            backend.drop(len(self._prompt) + agreed)
        for start in range(agreed, len(written), backend.batch):
            backend.evaluate(written[start : start + backend.batch])
        self._certain = len(written)
        return True

    def _continue(self, backend: Backend, written: Sequence[int], most: int) -> list[int]:
        """The likeliest ids one after another, as long as each is likely enough."""
        guessed: list[int] = []
        self._held = held = [*written]
        while (index := self._likely(backend.logits(), [*written[-PENALISED_IDS:], *guessed])) is not None:
            guessed.append(index)
            if len(guessed) == most:
                break
            backend.evaluate([index])
            held.append(index)
        return guessed

    def _likely(self, logits: Logits, recent: Sequence[int]) -> int | None:
        """The likeliest id, under the penalty that the answer is under; ``None`` where none is likely enough."""
        scores = penalised(logits, recent, self._request.sampling.repetition_penalty)
        index = int(scores.argmax())
        best = float(scores[index])
        if not math.isfinite(best) or index in self._end_ids:
            return None
        return index if 1.0 / float(np.exp(scores - best).sum()) >= _LEAST_PROBABILITY else None


def prompt_for(request: Request, window: int, bos_id: int) -> tuple[int, ...]:
    """What of the prompt of ``request`` fits ``window`` tokens beside the reply: all, or BOS and the last part.

    Half of the window is kept for the reply at most. The last part begins at one of a few places, so that the next
    prompt over the same documents is likely to begin at the same.
    """
    room = window - min(request.sampling.max_tokens, window // 2)
    if len(request.ids) <= room:
        return request.ids
    step = max(1, room // 4)
    start = -(-(len(request.ids) + 1 - room) // step) * step
    return (bos_id, *request.ids[start:])
