"""A second model that guesses: right or wrong, too small for the prompt, busy, foreign, or one too many."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chinese_alpaca_rag.errors import ModelError, ModelNotFoundError, NotEnoughMemoryError, WrongUsageError
from chinese_alpaca_rag.family import memory
from chinese_alpaca_rag.family.catalogue import Sampling
from chinese_alpaca_rag.language import Words
from chinese_alpaca_rag.llms import gguf, transformers_loading
from chinese_alpaca_rag.llms.cancellation import Cancellation
from chinese_alpaca_rag.llms.draft_model import ModelDrafter, drafter_of, prompt_for
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.request import Request
from chinese_alpaca_rag.llms.speculation import Speculation
from tests.llms.conftest import OpenModel
from tests.llms.drafters import generation_of, plain, request_of, written
from tests.llms.evaluations import Evaluations
from tests.toy_byte_pair import toy_byte_pair
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

QUESTION = "公司的年假有几天？正式员工每年享有年假。"
GREEDY: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 40, "min_tokens": 40}

OpenPair = Callable[..., LocalChat]


@pytest.fixture(scope="session")
def twin(toy: ToyCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """The toy's own weights in other files: as a draft it is always right."""
    folder = tmp_path_factory.mktemp("twin")
    return ToyCheckpoint(
        hf=Path(shutil.copytree(toy.hf, folder / toy.hf.name)), gguf=Path(shutil.copy(toy.gguf, folder / toy.gguf.name))
    )


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """Other weights over the same vocabulary, with a window of 256 tokens: as a draft it is always wrong."""
    return build_toy_family(
        tmp_path_factory.mktemp("stranger"), tokenizer_model=toy_tokenizer_model(), layers=1, window=256, seed=9
    )


def draft_for(model: LocalChat, checkpoint: ToyCheckpoint) -> Path:
    return checkpoint.gguf if model.backend_format == "gguf" else checkpoint.hf


@pytest.fixture
def open_pair(open_model: OpenModel) -> OpenPair:
    """Opens the toy with a draft, which guesses always and every id that is likely enough to it."""

    def open_it(draft: ToyCheckpoint, count: int | None = 4, **fields: Any) -> LocalChat:
        path = draft_for(open_model(), draft)
        model = open_model(**{**GREEDY, "draft_model_path": path, **fields})

        def speculation(request: Request, pace: Pace) -> Speculation:
            assert model._draft is not None
            drafters = [drafter_of(model._draft, request, Cancellation())]
            return Speculation(request, drafters, pace, model.tokenizer.end_ids, always=count)

        model._speculation_for = speculation
        return model

    return open_it


@pytest.fixture
def willing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts say what they think likeliest, however unlikely: the toys are never sure of anything."""
    monkeypatch.setattr("chinese_alpaca_rag.llms.draft_model._LEAST_PROBABILITY", 0.0)
    monkeypatch.setattr("chinese_alpaca_rag.llms.draft_model._SHARE_FOR_READING", 1e9)


@pytest.mark.usefixtures("willing")
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.2, "seed": 5, "repetition_penalty": 1.2}])
def test_answers_are_the_same_with_a_draft_that_is_right_or_wrong(
    open_pair: OpenPair, twin: ToyCheckpoint, stranger: ToyCheckpoint, settings: dict[str, Any]
) -> None:
    for draft in (twin, stranger):
        model = open_pair(draft, **settings)
        request = request_of(model, QUESTION)
        expected = plain(model, request)
        found = written(model, request)
        assert found.told == expected.told
        counts = found.answer.metadata["speculation"]
        if draft is stranger:
            assert counts["accepted"] < 0.3 * counts["drafted"]
        elif not settings:
            assert counts["accepted"] > 0.95 * counts["drafted"] > 20


@pytest.mark.usefixtures("willing")
def test_a_draft_keeps_in_step_and_reads_nothing_twice(open_pair: OpenPair, twin: ToyCheckpoint) -> None:
    model = open_pair(twin)
    draft = model._draft
    assert draft is not None
    request = request_of(model, QUESTION)
    evaluations = Evaluations(draft)  # type: ignore[arg-type]  # it has what is needed of a chat model
    found = written(model, request)
    counts = found.answer.metadata["speculation"]
    assert counts == {"drafted": 31, "accepted": 31}
    # The prompt, and every id of the answer at most once.
    assert evaluations.tokens <= len(request.ids) + 40
    evaluations.batches.clear()
    written(model, request)
    assert evaluations.tokens <= 41


@pytest.mark.usefixtures("willing")
def test_what_a_draft_guesses_depends_on_the_text_alone(open_pair: OpenPair, twin: ToyCheckpoint) -> None:
    """And not on what it guessed before, of which much was wrong, nor on who used it in between."""
    model = open_pair(twin)
    draft = model._draft
    assert draft is not None
    request = request_of(model, QUESTION)
    drafter = drafter_of(draft, request, Cancellation())
    so_far, guessed = [700], [0]
    for right, disturbed in ((0, False), (1, False), (4, False), (0, True), (2, False), (3, True), (0, False)):
        # So many of the last guess were right, then came something else.
        so_far = [*so_far, *guessed[:right], 701, 702]
        if disturbed:
            drafter.close()
            draft.next_token_logits([1, 300, 301])
        guessed = list(drafter.guess(so_far, 4).ids)
        assert guessed == likeliest(model, [*request.ids, *so_far], 4)
    drafter.close()


def likeliest(model: LocalChat, ids: list[int], count: int) -> list[int]:
    """The ids that a model would go on with: a twin's own."""
    found: list[int] = []
    for _ in range(count):
        found.append(int(model.next_token_logits([*ids, *found]).argmax()))
    return found


@pytest.mark.usefixtures("willing")
def test_a_prompt_longer_than_the_drafts_window_is_given_to_it_without_its_beginning(
    open_pair: OpenPair, stranger: ToyCheckpoint
) -> None:
    model = open_pair(stranger)
    assert model._draft is not None
    assert model._draft.window == 256
    request = request_of(model, QUESTION * 40)
    assert len(request.ids) > 400
    expected = plain(model, request)
    evaluations = Evaluations(model._draft)  # type: ignore[arg-type]
    found = written(model, request)
    assert found.told == expected.told
    assert found.answer.metadata["speculation"]["drafted"] > 20
    assert 30 < evaluations.batches[0] <= 216


@pytest.mark.usefixtures("willing")
def test_a_draft_whose_window_is_full_is_silent(open_pair: OpenPair, stranger: ToyCheckpoint) -> None:
    model = open_pair(stranger, max_tokens=300, min_tokens=300)
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    found = written(model, request)
    assert found.told == expected.told
    assert len(found.ids) == 300


def test_what_is_left_of_a_prompt_begins_at_few_places() -> None:
    def request(length: int, max_tokens: int) -> Request:
        return Request(tuple(range(1000, 1000 + length)), Sampling(0.0, 0, 1.0, 1.0, max_tokens), None, ())

    assert prompt_for(request(90, 10), 100, 1) == tuple(range(1000, 1090))
    starts = set()
    for length in range(91, 500):
        left = prompt_for(request(length, 10), 100, 1)
        assert left[0] == 1
        assert left[-1] == 999 + length
        assert 60 <= len(left) <= 90
        starts.add(left[1])
    assert len(starts) < 25
    # A reply longer than the window leaves half of it to the prompt.
    assert 25 <= len(prompt_for(request(500, 400), 100, 1)) <= 50


def test_guesses_of_which_the_draft_is_not_sure_are_none(open_pair: OpenPair, stranger: ToyCheckpoint) -> None:
    model = open_pair(stranger)
    request = request_of(model, QUESTION)
    found = written(model, request)
    assert found.told == plain(model, request).told
    assert found.answer.metadata == {}


@pytest.mark.usefixtures("willing")
def test_a_draft_in_use_is_not_waited_for(open_pair: OpenPair, twin: ToyCheckpoint) -> None:
    model = open_pair(twin)
    draft = model._draft
    assert draft is not None
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    with draft._weights.turns.step("somebody else"):
        assert written(model, request).told == expected.told
    draft._weights.turns.leave("somebody else")
    assert written(model, request).answer.metadata["speculation"]["drafted"] > 20


@pytest.mark.usefixtures("willing")
def test_a_draft_that_answers_in_between_goes_on_guessing(
    open_pair: OpenPair, open_model: OpenModel, twin: ToyCheckpoint
) -> None:
    """Of the same files and options, the draft's weights are those of a model of its own."""
    model = open_pair(twin)
    own = open_model(model_path=draft_for(model, twin), **GREEDY)
    draft = model._draft
    assert draft is not None
    assert own._weights is draft._weights
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    pieces = generation_of(model, request).pieces()
    found = [next(pieces) for _ in range(3)]
    assert own.invoke("别的问题").content
    answer = [*found, *pieces]
    assert answer == expected.pieces


@pytest.mark.usefixtures("willing")
def test_two_models_that_guess_for_each_other_do_not_wait_for_each_other(
    open_pair: OpenPair, open_model: OpenModel, toy: ToyCheckpoint, twin: ToyCheckpoint
) -> None:
    one = open_pair(twin)
    fields: dict[str, Any] = {**GREEDY, "model_path": draft_for(one, twin), "draft_model_path": draft_for(one, toy)}
    other = open_model(**fields)
    request = request_of(one, QUESTION)
    expected = plain(one, request).ids

    def work(model: LocalChat) -> list[list[int]]:
        return [written(model, request).ids for _ in range(6)]

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, model) for model in (one, other)]:
            assert done.result(timeout=60) == [expected] * 6


@pytest.mark.usefixtures("willing")
def test_cancelling_ends_the_guessing_too(open_pair: OpenPair, twin: ToyCheckpoint) -> None:
    model = open_pair(twin)
    draft = model._draft
    assert draft is not None
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    cancelled = Cancellation()
    drafter = drafter_of(draft, request, cancelled)
    model._speculation_for = lambda request, pace: Speculation(
        request, [drafter], pace, model.tokenizer.end_ids, always=4
    )
    evaluations = Evaluations(draft)  # type: ignore[arg-type]
    evaluations.before = lambda: cancelled.set() if len(evaluations.batches) == 4 else None
    answer = generation_of(model, request, cancelled)
    assert expected.text.startswith("".join(answer.pieces()))
    assert answer.finish_reason is None
    assert len(evaluations.batches) <= 5
    # Nothing is left held: the draft is free.
    with draft._weights.turns.step_if_free("somebody else") as undisturbed:
        assert undisturbed is False
    draft._weights.turns.leave("somebody else")


@pytest.mark.usefixtures("willing")
def test_a_draft_that_fails_leaves_the_answer_as_it_is(
    open_pair: OpenPair, twin: ToyCheckpoint, caplog: pytest.LogCaptureFixture
) -> None:
    model = open_pair(twin)
    assert model._draft is not None
    request = request_of(model, QUESTION)
    expected = plain(model, request)
    evaluations = Evaluations(model._draft)  # type: ignore[arg-type]

    def fail() -> None:
        if len(evaluations.batches) > 5:
            raise ModelError(Words(zh="坏了", en="broken"), hint=Words(zh="", en=""))

    evaluations.before = fail
    found = written(model, request)
    assert found.told == expected.told
    assert 0 < found.answer.metadata["speculation"]["drafted"] < 20
    assert "broken" in caplog.text


def test_reading_waits_until_it_is_little_of_the_answers_time(open_pair: OpenPair, twin: ToyCheckpoint) -> None:
    model = open_pair(twin)
    draft = model._draft
    assert draft is not None
    request = request_of(model, QUESTION * 20)
    written_ids = [300, 301]
    draft._weights.pace.reading = 3600.0  # seconds a token
    drafter = drafter_of(draft, request, Cancellation())
    evaluations = Evaluations(draft)  # type: ignore[arg-type]
    assert list(drafter.guess(written_ids, 4).ids) == []
    assert evaluations.tokens == 0
    drafter.close()
    draft._weights.pace.reading = None
    drafter = drafter_of(draft, request, Cancellation())
    drafter._begun -= 3600.0
    drafter.guess(written_ids, 4)
    assert evaluations.tokens >= len(request.ids) + 2
    assert 0 < draft._weights.pace.reading < 1.0  # type: ignore[operator]  # measured by now
    drafter.close()


@pytest.mark.usefixtures("willing")
def test_a_draft_reads_from_the_prefix_store_as_well(open_pair: OpenPair, twin: ToyCheckpoint, tmp_path: Path) -> None:
    text = QUESTION * 100
    model = open_pair(twin, prefix_store=tmp_path)
    first = written(model, request_of(model, text))
    assert model.finish_saving() is None
    model.close()
    assert model._draft is not None
    evaluations = Evaluations(model._draft)  # type: ignore[arg-type]
    again = written(model, request_of(model, text))
    assert again.ids == first.ids
    assert evaluations.tokens < len(first.answer.request.ids) / 2 + 40


# Opening.


def test_a_model_with_a_draft_in_everyday_use(open_model: OpenModel, twin: ToyCheckpoint) -> None:
    model = open_model(**GREEDY, draft_model_path=draft_for(open_model(), twin))
    alone = open_model(**GREEDY, speculation="off")
    assert model._weights is alone._weights
    assert model.invoke(QUESTION).content == alone.invoke(QUESTION).content
    draft = model._draft
    assert draft is not None
    assert draft._backend is not None
    alone.close()
    model.close()
    assert draft._backend is None
    assert model._backend is None
    assert model.invoke(QUESTION).content == alone.invoke(QUESTION).content
    copy = model.model_copy(update={"max_tokens": 5, "min_tokens": 5})
    assert copy._draft is not None
    assert copy._draft._weights is draft._weights
    assert model._identity() != alone._identity()


def test_drafts_that_cannot_be_are_refused(
    open_model: OpenModel, toy: ToyCheckpoint, twin: ToyCheckpoint, tmp_path: Path
) -> None:
    gguf_draft = open_model().backend_format == "gguf"
    with pytest.raises(ModelNotFoundError):
        open_model(draft_model_path=tmp_path / "nothing")
    with pytest.raises(WrongUsageError, match="format"):
        open_model(draft_model_path=twin.hf if gguf_draft else twin.gguf)
    with pytest.raises(WrongUsageError, match="the model itself"):
        open_model(draft_model_path=toy.gguf if gguf_draft else toy.hf)
    with pytest.raises(WrongUsageError, match="draft_model_path"):
        open_model(draft_model="x")
    third = build_toy_family(tmp_path / "third", byte_pair=toy_byte_pair())
    with pytest.raises(WrongUsageError, match="vocabulary") as refused:
        open_model(draft_model_path=third.gguf if gguf_draft else third.hf)
    assert "kind" in refused.value.message.en
    swapped = build_toy_family(tmp_path / "swapped", tokenizer_model=with_two_pieces_swapped(toy_tokenizer_model()))
    with pytest.raises(WrongUsageError, match="id 4") as refused:
        open_model(draft_model_path=swapped.gguf if gguf_draft else swapped.hf)
    assert "draft_model_path" in refused.value.hint.en


def with_two_pieces_swapped(tokenizer_model: bytes) -> bytes:
    """The same pieces in another order: as many ids, two of which mean something else."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer_model)
    one, other = proto.pieces[400].piece, proto.pieces[401].piece
    proto.pieces[400].piece, proto.pieces[401].piece = other, one
    return bytes(proto.SerializeToString())


def test_memory_has_to_hold_both(open_model: OpenModel, twin: ToyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draft_for(open_model(), twin)
    alone = open_model(max_tokens=4)
    needed = alone._memory()
    assert needed is not None
    enough_for_one = needed[0].required * 3 // 2
    for place in (gguf, transformers_loading, memory):
        monkeypatch.setattr(place, "available_memory", lambda: enough_for_one)
    model = open_model(max_tokens=4, window=4095, draft_model_path=path)
    with pytest.raises(NotEnoughMemoryError, match="together") as refused:
        model.invoke(QUESTION)
    assert "draft_model_path" in refused.value.hint.en
    assert model._backend is None
    monkeypatch.undo()
    assert model.invoke(QUESTION).content is not None


def test_the_draft_is_no_chat_model_and_may_be_a_base(toy: ToyCheckpoint, toy_base: ToyCheckpoint) -> None:
    for model in (
        ChatAlpacaGGUF(model_path=toy.gguf, n_threads=1, draft_model_path=toy_base.gguf),
        ChatAlpacaHF(model_path=toy.hf, device="cpu", draft_model_path=toy_base.hf),
    ):
        assert model._draft is not None
        assert not isinstance(model._draft, LocalChat)
        assert isinstance(drafter_of(model._draft, request_of(model, "你好"), Cancellation()), ModelDrafter)
