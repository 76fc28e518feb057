from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough

from chinese_alpaca_rag.chains import (
    Answer,
    Finished,
    PlanMade,
    Progress,
    Summary,
    Token,
    create_qa_chain,
    create_summarize_chain,
)
from chinese_alpaca_rag.chains.question_answering import QuestionAnswering
from tests.chains.libraries import FixedRetriever, passage
from tests.chains.reading_model import ReadingModel, shown_sources

QUESTION = "年假有几天？"
LEAVE = "工作满一年的员工每年享有15天年假。"
LONG = "本段说明与所问的事情没有关系，只是占据位置而已。" * 8


def short(model: Any = None, **choices: Any) -> QuestionAnswering:
    return create_qa_chain(model or ReadingModel(), FixedRetriever(documents=[passage(LEAVE)]), **choices)


def in_parts(model: ReadingModel) -> QuestionAnswering:
    """A chain that needs several calls of a model with a window of 1,000."""
    found = [passage(f"{number}。{LONG}", source=f"/{number}") for number in range(8)]
    return create_qa_chain(model, FixedRetriever(documents=[*found, passage(LEAVE)]))


def wait_for(condition: Callable[[], bool]) -> bool:
    """Whether it came true within five seconds."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_composes_with_other_runnables() -> None:
    chain = short()
    text = chain | RunnableLambda(lambda answer: answer.answer)
    assert text.invoke(QUESTION) == chain.invoke(QUESTION).answer
    passed: Any = RunnablePassthrough()
    assert (passed | chain).invoke({"question": QUESTION}).answer.startswith(LEAVE)
    asked = {"question": RunnablePassthrough()} | chain
    assert asked.invoke(QUESTION).answer.startswith(LEAVE)
    both = RunnableParallel(answer=chain, asked=RunnablePassthrough()).invoke(QUESTION)
    assert isinstance(both["answer"], Answer)


def test_composed_stream_gives_the_next_step_the_answer_and_the_last_step_its_events() -> None:
    chain = short()
    assert list((chain | RunnableLambda(lambda answer: answer.answer)).stream(QUESTION)) == [
        chain.invoke(QUESTION).answer
    ]
    events = list(({"question": RunnablePassthrough()} | chain).stream(QUESTION))
    assert isinstance(events[0], PlanMade)
    assert isinstance(events[-1], Finished)


def test_events_add_up_to_the_result() -> None:
    events = list(in_parts(ReadingModel(window=1000)).stream(QUESTION))
    total: Any = events[0]
    for event in events[1:]:
        total = total + event
    assert isinstance(total, Answer)
    assert isinstance(events[-1], Finished)
    assert total == events[-1].result
    with pytest.raises(TypeError):
        events[0] + "text"


def test_streamed_beside_another_branch_the_events_add_up_there_too() -> None:
    chain = short()
    both: Any = None
    for piece in RunnableParallel(answer=chain, asked=RunnablePassthrough()).stream(QUESTION):
        both = piece if both is None else both + piece
    assert both["answer"].answer == chain.invoke(QUESTION).answer


def test_langchains_event_stream_shows_every_step() -> None:
    async def collect() -> list[tuple[str, str]]:
        events = in_parts(ReadingModel(window=1300)).astream_events(QUESTION, version="v2")
        return [(event["event"], event["name"]) async for event in events]

    seen = asyncio.run(collect())
    assert seen[0] == ("on_chain_start", "QuestionAnswering")
    assert seen[-1] == ("on_chain_end", "QuestionAnswering")
    assert ("on_retriever_end", "FixedRetriever") in seen
    assert ("on_chat_model_end", "answer") in seen


def test_batch_answers_each_question() -> None:
    answers = short().batch([QUESTION, {"question": "How many days?"}])
    assert [type(answer) for answer in answers] == [Answer, Answer]


def test_retriever_composes_into_a_summary() -> None:
    chain = FixedRetriever(documents=[passage(LEAVE)]) | create_summarize_chain(ReadingModel())
    assert isinstance(chain.invoke("年假"), Summary)


def test_schemas_name_question_and_answer() -> None:
    chain = short()
    assert chain.get_name() == "QuestionAnswering"
    assert chain.OutputType is Answer
    assert "anyOf" in chain.get_input_jsonschema()
    assert chain.get_output_jsonschema()["$defs"]["Answer"]["properties"].keys() == {"answer", "citations", "receipt"}


class Recorder(BaseCallbackHandler):
    """Keeps the names of the runs that it is told of, and how they ended."""

    def __init__(self) -> None:
        self.started: list[tuple[str, Any]] = []
        self.ended: list[Any] = []
        self.failed: list[BaseException] = []
        self.tokens: list[Any] = []

    def on_chain_start(self, serialized: Any, inputs: Any, *, parent_run_id: Any = None, **kwargs: Any) -> None:
        self.started.append((kwargs["name"], parent_run_id))

    def on_chat_model_start(self, serialized: Any, messages: Any, *, parent_run_id: Any = None, **kwargs: Any) -> None:
        self.started.append((kwargs["name"], parent_run_id))

    def on_retriever_start(self, serialized: Any, query: str, *, parent_run_id: Any = None, **kwargs: Any) -> None:
        self.started.append((kwargs["name"], parent_run_id))

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.ended.append(outputs)

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.failed.append(error)


@pytest.mark.parametrize("how", ["invoke", "stream", "ainvoke", "astream"])
def test_callbacks_see_every_step_under_its_name(how: str) -> None:
    recorder = Recorder()
    model = ReadingModel(window=1300)
    chain = in_parts(model)
    config: RunnableConfig = {"callbacks": [recorder], "run_name": "ask", "tags": ["t"]}

    async def collect() -> None:
        assert [event async for event in chain.astream(QUESTION, config)]

    match how:
        case "invoke":
            chain.invoke(QUESTION, config)
        case "stream":
            list(chain.stream(QUESTION, config))
        case "ainvoke":
            asyncio.run(chain.ainvoke(QUESTION, config))
        case _:
            asyncio.run(collect())
    names = [name for name, _ in recorder.started]
    parts = len(model.prompts) - 1
    assert names == ["ask", "FixedRetriever", *[f"extract {n + 1}/{parts}" for n in range(parts)], "answer"]
    assert recorder.started[0][1] is None
    assert len({parent for _, parent in recorder.started[1:]}) == 1
    [outcome] = recorder.ended
    assert isinstance(outcome, Answer)
    assert recorder.failed == []
    assert recorder.tokens


def test_error_is_told_to_callbacks_and_raised() -> None:
    recorder = Recorder()

    def fail() -> None:
        raise OSError("weights are gone")

    with pytest.raises(OSError, match="weights"):
        short(ReadingModel(pace=fail)).invoke(QUESTION, {"callbacks": [recorder]})
    assert [type(error) for error in recorder.failed] == [OSError]


def test_closing_the_stream_stops_the_model() -> None:
    model = ReadingModel()
    events = short(model).stream(QUESTION)
    while not isinstance(next(events), Token):
        pass
    said = model.said
    events.close()
    assert (model.said, model.closed) == (said, 1)


def test_closing_between_parts_reads_no_further_part() -> None:
    model = ReadingModel(window=1000)
    events = in_parts(model).stream(QUESTION)
    while not isinstance(next(events), Progress):
        pass
    events.close()
    assert len(model.prompts) == 1


def test_parts_are_read_by_several_threads_only_when_asked_for() -> None:
    running: list[int] = []
    most: list[int] = []

    def pace() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.002)
        running.pop()

    alone = in_parts(ReadingModel(window=1000, pace=pace)).invoke(QUESTION)
    assert max(most) == 1
    model = ReadingModel(window=1000, pace=pace)
    together = in_parts(model).invoke(QUESTION, {"max_concurrency": 3})
    assert max(most) in (2, 3)
    assert together.answer == alone.answer
    assert together.citations == alone.citations
    assert together.receipt.prompt_tokens == alone.receipt.prompt_tokens


def test_closing_stops_every_thread_that_still_reads() -> None:
    model = ReadingModel(window=1000, manner="ramble", pace=lambda: time.sleep(0.001))
    events = in_parts(model).stream(QUESTION, {"max_concurrency": 2})
    while not isinstance(next(events), Progress):
        pass
    began = time.monotonic()
    events.close()
    said, prompts = model.said, len(model.prompts)
    assert time.monotonic() - began < 1
    time.sleep(0.05)
    assert (model.said, len(model.prompts)) == (said, prompts)
    assert prompts <= 4


def test_astream_gives_the_same_events() -> None:
    async def collect() -> list[Any]:
        return [event async for event in in_parts(ReadingModel(window=1000)).astream(QUESTION)]

    kinds = [type(event) for event in asyncio.run(collect())]
    assert kinds == [type(event) for event in in_parts(ReadingModel(window=1000)).stream(QUESTION)]


def test_many_async_runs_at_once() -> None:
    async def ask() -> list[Answer]:
        return await short().abatch([QUESTION] * 8)

    assert len(asyncio.run(ask())) == 8


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
@pytest.mark.parametrize("parts", [False, True])
def test_cancelling_a_task_stops_the_work_at_the_next_token(how: str, parts: bool) -> None:
    under_way = threading.Event()

    def pace() -> None:
        under_way.set()
        time.sleep(0.002)

    model = ReadingModel(window=1000, max_tokens=300, manner="ramble", rambling=300, pace=pace)
    chain = in_parts(model) if parts else short(model)

    async def run() -> float:
        async def consume() -> None:
            if how == "ainvoke":
                await chain.ainvoke(QUESTION)
            else:
                async for _ in chain.astream(QUESTION):
                    pass

        task = asyncio.create_task(consume())
        await asyncio.to_thread(under_way.wait, 5)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(run()) < 1
    assert wait_for(lambda: model.closed == len(model.prompts))
    said = model.said
    time.sleep(0.03)
    assert model.said == said < 300 / 7
    assert len(model.prompts) == 1


def test_leaving_an_async_stream_stops_the_work() -> None:
    model = ReadingModel()

    async def first_token() -> None:
        events = short(model).astream(QUESTION)
        async for event in events:
            if isinstance(event, Token):
                break
        await events.aclose()

    asyncio.run(first_token())
    assert model.closed == 1
    assert model.said <= 2


def test_any_chat_model_will_do_once_its_window_is_known() -> None:
    model = FakeListChatModel(responses=[LEAVE + "[1]"])
    answer = short(model, window=4000).invoke(QUESTION)
    assert [citation.verified for citation in answer.citations] == [True]
    assert answer.receipt.model == "FakeListChatModel"
    assert answer.receipt.window == 4000
    assert answer.receipt.prompt_tokens > len(QUESTION)
    assert answer.receipt.output_tokens >= len(LEAVE)


def test_bound_model_is_called_with_its_arguments() -> None:
    model = ReadingModel()
    answer = short(model.bind(stop=["。"])).invoke(QUESTION)
    assert answer.receipt.window == model.window
    assert shown_sources(model.prompts[0]) == {1: LEAVE}


def test_importing_the_room_costs_nothing() -> None:
    import subprocess
    import sys

    program = "import sys, chinese_alpaca_rag.chains; print(sorted(m for m in sys.modules if 'langchain' in m))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_there() -> None:
    import chinese_alpaca_rag.chains as chains

    for name in chains.__all__:
        assert getattr(chains, name) is not None
    with pytest.raises(AttributeError):
        chains.nothing  # noqa: B018
