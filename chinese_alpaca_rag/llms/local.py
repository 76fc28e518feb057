"""Models whose weights are on this machine: opening them, sharing them, answering one at a time or together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, PrivateAttr, field_validator

from chinese_alpaca_rag.family.catalogue import ModelCard
from chinese_alpaca_rag.family.checkpoint import Checkpoint
from chinese_alpaca_rag.family.memory import MemoryNeed
from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.family.template import Segment
from chinese_alpaca_rag.family.tokens import Tokenizer
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms.backend import Backend, Logits, forgetting
from chinese_alpaca_rag.llms.batching import answer_together, current_participant, groups
from chinese_alpaca_rag.llms.beams import BeamSearch
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.draft_model import drafter_of, open_as_draft, require_room_for_both
from chinese_alpaca_rag.llms.drafting import Drafter, PromptLookup
from chinese_alpaca_rag.llms.family_model import CALL_FIELDS, FamilyModel, PromptUnder
from chinese_alpaca_rag.llms.generation import Generation
from chinese_alpaca_rag.llms.headers import fingerprint, header, tokenizer
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.prefixes import Prefixes
from chinese_alpaca_rag.llms.refusals import (
    check_beams,
    check_choice,
    check_combination,
    check_text,
    no_room_for_rows,
    wrong_format,
)
from chinese_alpaca_rag.llms.request import Answer, Constraint, Guidance, Request
from chinese_alpaca_rag.llms.sampling import check_at_least_one, check_whole_number
from chinese_alpaca_rag.llms.speculation import Speculating, Speculation
from chinese_alpaca_rag.llms.weight_identity import Identity, adapter_files, identity_of, weight_files
from chinese_alpaca_rag.llms.weights import Claim, Weights, weights_of


class LocalModel(FamilyModel):
    """A checkpoint on this machine.

    Making one reads the checkpoint's header only; weights load at the first call and stay until ``close``.
    Objects that would open the same files in the same way share them. They may be used by any number of
    threads; answers are made one after another, those of one ``batch`` side by side.
    """

    model_path: Path = Field(frozen=True)
    """A GGUF file or a transformers folder, as the class expects."""
    lora_path: Path | None = Field(default=None, frozen=True)
    """A LoRA adapter to apply: a PEFT folder over a transformers folder, a GGUF adapter over a GGUF file."""
    batch_size: int = 8
    """The most prompts that ``batch`` evaluates side by side; 1 is one after another."""
    num_beams: int = 1
    """Above 1 the likeliest of that many beams is searched for instead of sampling; it comes in one piece."""
    guidance_scale: float = 1.0
    """Classifier-free guidance: above 1 replies are led away from what they would be under ``negative_prompt``."""
    prefix_store: Path | None = Field(default=None, frozen=True)
    """A folder in which keys and values of prompts' beginnings are kept for other processes and days; ``None``:
    in memory only. ``prefix_store.default_folder()`` is the command's own."""
    negative_prompt: str | None = None
    """What to be led away from: stands in the place of the system text (``None``: no prompt at all)."""
    speculation: Speculating = "auto"
    """Whether ids are guessed (from the prompt, which answers quote, and by a draft model) and checked several at
    once where that is quicker. Answers stay what they are but for rounding: several ids at once round otherwise
    than one in half precision. So "auto" does not guess under a ``seed``, which promises repeatable replies; "on"
    does, "off" never does. Beams, guidance and what ``batch`` answers together are not guessed."""
    draft_model_path: Path | None = Field(default=None, frozen=True)
    """A smaller model of the same vocabulary and format that guesses where the prompt has nothing to quote: the
    family's 1.3B for its 7B and 13B. It is opened as the model is."""

    backend_format: ClassVar[Literal["gguf", "hf"]]
    call_fields: ClassVar[tuple[str, ...]] = (
        *CALL_FIELDS,
        "num_beams",
        "guidance_scale",
        "negative_prompt",
        "speculation",
    )
    max_rows: ClassVar[int]
    # What can change an answer beside what a call may say, and what else says how weights are opened.
    loading_fields: ClassVar[tuple[str, ...]] = ()
    opening_fields: ClassVar[tuple[str, ...]] = ()

    _claim: Claim = PrivateAttr(default_factory=Claim)
    _checkpoint: Checkpoint = PrivateAttr()
    _draft: LocalModel | None = PrivateAttr(default=None)
    # For benchmarks and tests: makes the speculation of a request, in place of the model's own.
    _speculation_for: Callable[[Request, Pace], Speculation | None] | None = PrivateAttr(default=None)

    @field_validator("model_path", "lora_path", "prefix_store", "draft_model_path")
    @classmethod
    def _home_is_known(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()

    @field_validator("prefix_store")
    @classmethod
    def _one_name_for_a_folder(cls, path: Path | None) -> Path | None:
        return path and path.absolute()

    @classmethod
    def _card_of(cls, values: Mapping[str, Any]) -> ModelCard | None:
        path, lora = values.get("model_path"), values.get("lora_path")
        if not isinstance(path, str | Path):
            return None
        lora = Path(lora).expanduser() if isinstance(lora, str | Path) else None
        return header(Path(path).expanduser(), lora).card

    def _check_model(self) -> None:
        self._checkpoint = header(self.model_path, self.lora_path)
        if self.checkpoint.format != self.backend_format:
            raise wrong_format(self.checkpoint, type(self).__name__)
        super()._check_model()

    def _check_call(self, overrides: Mapping[str, Any]) -> None:
        super()._check_call(overrides)
        check_whole_number("batch_size", self.batch_size, least=1)
        check_whole_number("num_beams", overrides.get("num_beams", self.num_beams), least=1)
        scale = overrides.get("guidance_scale", self.guidance_scale)
        check_at_least_one("guidance_scale", scale)
        check_text("negative_prompt", overrides.get("negative_prompt", self.negative_prompt))
        check_combination(overrides.get("num_beams", self.num_beams), scale, self.max_rows)
        check_choice("speculation", overrides.get("speculation", self.speculation), get_args(Speculating))

    @abstractmethod
    def _load(self, checkpoint: Checkpoint, plan: RopePlan) -> Backend:
        """Open the weights. Raises ``CheckpointError``, ``ModelError`` or ``MissingExtraError``."""

    def _memory(self) -> tuple[MemoryNeed, int | None] | None:
        """What opening takes, and the bytes that are free where it goes; ``None`` where nobody knows."""
        return None

    # What the model is.

    @property
    def model_name(self) -> str:
        """The name in the catalogue, or the file's own."""
        return self.checkpoint.name

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self.checkpoint.card

    @property
    def checkpoint(self) -> Checkpoint:
        """What the checkpoint's header says, and its adapter's."""
        return self._checkpoint

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer; weights stay where they are."""
        if self._claim.tokenizer is None:
            # Looking whether the files are still the same takes longer than counting a short prompt.
            self._claim.tokenizer = tokenizer(self.model_path, self.lora_path)
        return self._claim.tokenizer

    def _identity(self) -> dict[str, Any]:
        adapter = {"lora_path": str(self.lora_path), "lora": fingerprint(self.lora_path)} if self.lora_path else {}
        path = self.draft_model_path
        draft = {"draft_model_path": str(path), "draft_model": fingerprint(path)} if path else {}
        return {
            **super()._identity(),
            "model_path": str(self.model_path),
            "files": fingerprint(self.model_path),
            **adapter,
            **draft,
            **{name: getattr(self, name) for name in self.loading_fields},
        }

    # Answering.

    def _request(
        self,
        ids: tuple[int, ...],
        stop: list[str] | None,
        overrides: Mapping[str, Any] = MappingProxyType({}),
        constraint: Constraint | None = None,
        under: PromptUnder | None = None,
    ) -> Request:
        request = super()._request(ids, stop, overrides, constraint)
        beams = overrides.get("num_beams", self.num_beams)
        scale = overrides.get("guidance_scale", self.guidance_scale)
        if beams > 1:
            check_beams(beams, request)
            return self._limited(replace(request, beams=beams), [ids] * beams)
        if scale > 1:
            negative = overrides.get("negative_prompt", self.negative_prompt)
            unguided = ids[-1:] if negative is None or under is None else under(negative)
            return self._limited(replace(request, guidance=Guidance(unguided, scale)), [ids, unguided])
        wanted = overrides.get("speculation", self.speculation)
        return replace(request, speculative=wanted == "on" or (wanted == "auto" and request.seed is None))

    def _limited(self, request: Request, rows: Sequence[tuple[int, ...]]) -> Request:
        """``request`` with a reply that window and store of cells leave room for in every one of ``rows``."""
        room = self._plan.window - max(map(len, rows))
        cells = self._cells()
        if cells is not None:
            # Equal rows share the whole prompt; others share at least nothing.
            prompts = len(rows[0]) if len(set(rows)) == 1 else sum(map(len, rows))
            room = min(room, (cells - prompts) // len(rows))
        if room < 1:
            raise no_room_for_rows(len(rows), [len(row) for row in rows], self._plan.window)
        sampling = replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room))
        return replace(request, sampling=sampling)

    def _cells(self) -> int | None:
        """The tokens that a context holds for all rows together; ``None`` is no fixed number."""
        return None

    def _answer_to(self, request: Request, cancelled: Cancellation) -> Answer:
        parts: dict[str, Any] = {
            "turns": self._weights.turns,
            "prefixes": self._prefixes,
            "open_backend": self._opened,
            "cancelled": cancelled,
        }
        if request.beams > 1:
            return BeamSearch(request, self.tokenizer, **parts)
        return Generation(request, self.tokenizer, speculation=self._speculation_of(request, cancelled), **parts)

    def _speculation_of(self, request: Request, cancelled: Cancellation) -> Speculation | None:
        pace = self._weights.pace
        if self._speculation_for is not None:
            return self._speculation_for(request, pace)
        if not request.speculative:
            return None
        drafters: list[Drafter] = [PromptLookup(request.ids)]
        if self._draft is not None:
            drafters.append(drafter_of(self._draft, request, cancelled))
        return Speculation(request, drafters, pace, self.tokenizer.end_ids)

    def _whole_answer_to(self, request: Request, cancelled: Cancellation) -> Answer:
        """As ``_answer_to``, for one that is not streamed: inside a ``batch`` it is made with the others."""
        me = current_participant.get()
        answer = me.gathering.join(me.number, request) if me is not None and me.model is self else None
        return answer or self._answer_to(request, cancelled)

    def _answers_to(self, requests: Sequence[Request], cancelled: Cancellation) -> list[Answer]:
        """The answers to ``requests``, in their order, as many side by side as the context holds."""
        answers: list[Answer] = []
        with self._alone():
            backend = self._opened()
            most = min(self.batch_size, backend.max_rows)
            places = groups(requests, most, backend.capacity, shares_cells=backend.shares_cells)
        for group in places:
            members = [requests[place] for place in group]
            if len(members) == 1 or cancelled.is_set():
                answers += [self._answer_to(request, cancelled) for request in members]
                continue
            with self._alone():
                answers += answer_together(members, self.tokenizer, self._prefixes, self._opened(), cancelled)
        return answers

    # Weights.

    def _get_ready(self) -> None:
        """Hold on to the shared weights from now on, so that what one copy opens is there for the next."""
        self._claim.weights = self._weights
        if self.draft_model_path is not None:
            self._draft = open_as_draft(self, self.draft_model_path)

    @property
    def _weights(self) -> Weights:
        """What all objects share that would open the same files in the same way."""
        if self._claim.weights is None:
            options = {name: repr(getattr(self, name)) for name in (*self.loading_fields, *self.opening_fields)}
            files = (self.model_path.absolute(), fingerprint(self.model_path))
            adapter = (self.lora_path.absolute(), fingerprint(self.lora_path)) if self.lora_path else None
            self._claim.weights = weights_of((self.backend_format, files, adapter, self._plan, *options.items()))
        return self._claim.weights

    @property
    def _prefixes(self) -> Prefixes:
        """How prompts are read: with what the context holds and, where there is one, with the store."""
        return self._weights.prefixes(self.prefix_store, self._prefixes_in)

    def _prefixes_in(self, folder: Path) -> Prefixes:
        from chinese_alpaca_rag.llms.prefix_space import prefixes_in

        options = {name: repr(getattr(self, name)) for name in self.loading_fields}
        return prefixes_in(
            folder,
            self._weights,
            checkpoint=self.checkpoint,
            lora_path=self.lora_path,
            plan=self._plan,
            options=options,
        )

    def finish_saving(self) -> Words | None:
        """Wait until what ``prefix_store`` is to keep is on the disk; why it did not keep all, if it did not."""
        self._prefixes.finish_saving()
        return self._prefixes.problem

    @property
    def _backend(self) -> Backend | None:
        """The backend, if it is open."""
        return self._weights.backend

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, checked as a new model is, that shares the weights where it would open the same."""
        # LangChain's profile follows from the others.
        said = self.model_fields_set - {"profile"}
        values = {name: getattr(self, name) for name in type(self).model_fields if name in said}
        return type(self).model_validate({**values, **(update or {})})

    def next_token_logits(self, ids: Sequence[int], segments: Sequence[Segment] = ()) -> Logits:
        """The logits after ``ids``, one for each id of the vocabulary. Loads the weights."""
        with self._alone():
            backend = self._opened()
            backend.watch(Cancellation())
            with forgetting(backend):
                self._prefixes.prefill(backend, ids, segments, Cancellation())
                return backend.logits().copy()

    def close(self) -> None:
        """Free weights and context, once an answer in progress has ended; the next call loads them again.

        Where another object uses the same weights they stay for it. What ``prefix_store`` is to keep is written
        before.
        """
        if self.prefix_store is not None:
            self.finish_saving()
        with self._alone():
            self._weights.release(self._claim)
        if self._draft is not None:
            self._draft.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other answer is being made."""
        me = object()
        try:
            with self._weights.turns.step(me):
                yield
        finally:
            self._weights.turns.leave(me)

    def _opened(self) -> Backend:
        """The backend, loaded when it is not. Only inside a turn."""
        return self._weights.opened(self._claim, self._load_with_room, self._files)

    def _files(self) -> Identity:
        return identity_of([*weight_files(self.checkpoint), *adapter_files(self.lora_path)])

    def _load_with_room(self) -> Backend:
        if self._draft is not None:
            require_room_for_both(self, self._draft)
        return self._load(self.checkpoint, self._plan)

    @classmethod
    def _opening_class(cls) -> type[LocalModel]:
        """The class that opens weights, and is neither a chat model nor for completion."""
        kinds: list[type[LocalModel]] = [kind for kind in cls.__mro__ if "_load" in vars(kind)]
        return kinds[0]
