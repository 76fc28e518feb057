from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from chinese_alpaca_rag.chains.measuring import DEFAULT_REPLY, estimate_tokens, measure_model
from chinese_alpaca_rag.errors import WindowUnreachableError, WrongUsageError
from tests.chains.reading_model import TEMPLATE_TOKENS, ReadingModel, SourceReadingModel
from tests.shared_data import shared_data


class PlainModel(BaseChatModel):
    """A chat model as others write them: no window of its own, LangChain's counting."""

    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("好"))])


class CountingModel(PlainModel):
    """Counts a token for every two characters, or fails as an offline tokenizer does."""

    fails: bool = False

    def get_token_ids(self, text: str) -> list[int]:
        if self.fails:
            raise OSError("cannot fetch the vocabulary")
        return [0] * (len(text) // 2)


MESSAGES: Sequence[BaseMessage] = [HumanMessage("年假" * 50)]


def test_model_that_counts_is_measured_exactly() -> None:
    measure = measure_model(ReadingModel(window=2048, max_tokens=48))
    assert (measure.window, measure.reply, measure.limit) == (2048, 48, 2000)
    assert measure.count(MESSAGES) == 100 + TEMPLATE_TOKENS
    assert measure.count_text("年假有15天") == 6
    assert measure.fits([HumanMessage("年" * (2000 - TEMPLATE_TOKENS))])
    assert not measure.fits([HumanMessage("年" * (2001 - TEMPLATE_TOKENS))])


def test_reply_follows_a_model_that_is_changed() -> None:
    model = ReadingModel(window=2048, max_tokens=48)
    measure = measure_model(model)
    model.max_tokens = 148
    assert measure.limit == 1900


def test_window_can_be_narrowed_but_not_widened() -> None:
    assert measure_model(ReadingModel(window=2048), window=1024).window == 1024
    with pytest.raises(WindowUnreachableError, match=r"(?s)4096.*2048"):
        measure_model(ReadingModel(window=2048), window=4096)


@pytest.mark.parametrize("window", [0, -1])
def test_window_must_be_positive(window: int) -> None:
    with pytest.raises(WindowUnreachableError, match=str(window)):
        measure_model(PlainModel(), window=window)


@pytest.mark.parametrize(("window", "reply"), [(300, 300), (100, 300)])
def test_reply_must_leave_room(window: int, reply: int) -> None:
    with pytest.raises(WrongUsageError, match=str(reply)):
        measure_model(ReadingModel(window=window, max_tokens=reply))


def test_reader_of_sources_has_no_window() -> None:
    measure = measure_model(SourceReadingModel(), window=512)
    assert (measure.window, measure.limit, measure.count(MESSAGES)) == (None, None, 0)


def test_unknown_window_is_an_error_that_says_what_to_pass() -> None:
    with pytest.raises(WrongUsageError) as caught:
        measure_model(PlainModel())
    assert "window=" in caught.value.hint.en
    assert "PlainModel" in caught.value.message.zh


def test_window_is_read_from_the_models_profile() -> None:
    model = PlainModel(profile={"max_input_tokens": 32_000})
    assert measure_model(model).window == 32_000
    assert measure_model(model, window=8000).window == 8000


@pytest.mark.parametrize(
    ("own", "given", "window", "reply"),
    [
        (None, None, 8000, DEFAULT_REPLY),
        (None, None, 400, 100),
        (700, None, 8000, 700),
        (700, 200, 8000, 200),
        (9000, None, 8000, DEFAULT_REPLY),
        (-1, None, 8000, DEFAULT_REPLY),
    ],
)
def test_reply_of_another_model(own: int | None, given: int | None, window: int, reply: int) -> None:
    assert measure_model(PlainModel(max_tokens=own), window=window, reply=given).reply == reply


def test_bound_arguments_are_seen_through() -> None:
    assert measure_model(ReadingModel(window=2048).bind(max_tokens=77)).limit == 2048 - 77
    assert measure_model(PlainModel().bind(max_tokens=77).with_config(tags=["t"]), window=1000).reply == 77


def test_own_counting_is_used_and_its_failure_becomes_an_estimate(caplog: pytest.LogCaptureFixture) -> None:
    own = measure_model(CountingModel(), window=1000).count(MESSAGES)
    assert 50 <= own < 90
    estimated = measure_model(PlainModel(), window=1000).count(MESSAGES)
    assert estimated >= 200
    assert measure_model(CountingModel(fails=True), window=1000).count(MESSAGES) == estimated
    assert "estimating" in caplog.text


def test_custom_token_ids_count_as_own_counting() -> None:
    model = PlainModel(custom_get_token_ids=lambda text: [0] * (len(text) // 4))
    assert measure_model(model, window=1000).count(MESSAGES) < 60


def test_langchains_default_counting_is_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(BaseChatModel, "get_num_tokens", refuse)
    measure = measure_model(PlainModel(), window=1000)
    assert measure.count(MESSAGES) > 0
    assert measure.count_text("年假") > 0


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("abc", 1), ("abcd", 2), ("2024", 4), ("年假", 4), ("a b", 1), ("😀", 4), ("\n", 1)]
)
def test_estimate(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


def test_estimate_is_above_the_familys_own_count() -> None:
    import json

    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(str(shared_data("tokenizer/tokenizer.model")))
    trial = json.loads(shared_data("cmrc2018-trial.json").read_text(encoding="utf-8"))
    contexts = [paragraph["context"] for article in trial["data"] for paragraph in article["paragraphs"]]
    assert len(contexts) == 256
    for context in contexts:
        assert len(tokenizer.encode(context)) <= estimate_tokens(context)
