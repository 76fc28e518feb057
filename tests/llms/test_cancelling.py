"""Work that is called off stops at once, inside a prompt too, and leaves what was held."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from chinese_alpaca_rag.errors import AlpacaRagError
from chinese_alpaca_rag.family import preflight
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from tests.llms.conftest import OpenModel
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

QUESTION = "公司的年假有几天？"


def test_an_evaluation_stops_before_its_first_layer_is_through(open_model: OpenModel) -> None:
    model = open_model(max_tokens=8, temperature=0)
    expected = model.invoke(QUESTION).content
    backend = model._opened()
    held = [1, *range(300, 340)]
    backend.watch(Cancellation())
    backend.evaluate(held[backend.keep(held) :])
    cancelled = Cancellation()
    backend.watch(cancelled)
    cancelled.set()
    with pytest.raises(EvaluationStopped):
        backend.evaluate(list(range(400, 900)))
    # What was held before still is, and no more.
    assert backend.keep([*held, 400, 401]) == len(held)
    assert model.invoke(QUESTION).content == expected


def test_rows_stop_as_well(open_model: OpenModel) -> None:
    backend = open_model()._opened()
    held = [1, *range(300, 320)]
    backend.watch(Cancellation())
    backend.evaluate(held[backend.keep(held) :])
    backend.fork(2)
    cancelled = Cancellation()
    backend.watch(cancelled)
    cancelled.set()
    with pytest.raises(EvaluationStopped):
        backend.extend([[400, 401], [500]])
    assert backend.keep([*held, 400]) == len(held)


def test_a_task_that_is_cancelled_ends_within_one_token(open_model: OpenModel) -> None:
    model = open_model(max_tokens=3000, min_tokens=3000, temperature=0, repetition_penalty=1.0)
    seen: list[int] = []
    started = threading.Event()
    backend = model._opened()
    evaluate = backend.evaluate

    def counted(ids: list[int], outputs: int = 1) -> None:
        seen.append(len(ids))
        if len(seen) > 20:
            started.set()
        evaluate(ids, outputs)

    vars(backend)["evaluate"] = counted

    async def run() -> int:
        task = asyncio.ensure_future(model.ainvoke(QUESTION))
        while not started.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        at_cancel = len(seen)
        with pytest.raises(asyncio.CancelledError):
            await task
        # The thread may be in the middle of one token; it begins no second one.
        await asyncio.to_thread(model.next_token_logits, [1, 300])
        return at_cancel

    at_cancel = asyncio.run(run())
    assert len(seen) <= at_cancel + 2  # that token, and the one of next_token_logits


def test_too_little_memory_is_an_error_before_weights_are_read(
    open_model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(max_tokens=4)
    monkeypatch.setattr(preflight, "available_memory", lambda: 1_000_000)
    with pytest.raises(AlpacaRagError) as refused:
        model.invoke(QUESTION)
    assert type(refused.value).__name__ == "NotEnoughMemoryError"
    assert model._backend is None
    monkeypatch.undo()
    assert model.invoke(QUESTION).content is not None


CLOSING = """
import gc, sys, psutil
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, ChatAlpacaHF
tiny, path = sys.argv[1:]
kind = ChatAlpacaGGUF if path.endswith(".gguf") else ChatAlpacaHF
with kind(model_path=tiny) as model:
    model.invoke("warm up", max_tokens=1)
memory = lambda: psutil.Process().memory_info().rss
before = memory()
model = kind(model_path=path)
model.invoke("warm up", max_tokens=1)
opened = memory()
model.close()
gc.collect()
print(before, opened, memory())
"""


@pytest.mark.parametrize("form", ["gguf", "hf"])
def test_closing_gives_the_memory_back(form: str, toy: ToyCheckpoint, tmp_path: Path) -> None:
    """In a process of its own: all but a tenth of what a model of some 100 MB took."""
    large = build_toy_family(
        tmp_path, tokenizer_model=toy_tokenizer_model(), layers=4, hidden=768, heads=12, feed_forward=2048
    )
    arguments = [str(getattr(toy, form)), str(getattr(large, form))]
    done = subprocess.run([sys.executable, "-c", CLOSING, *arguments], capture_output=True, text=True, check=True)
    before, opened, closed = map(int, done.stdout.split())
    assert opened - before > 80e6
    assert closed - before < 0.1 * (opened - before) + 5e6


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer's signals")
def test_an_interruption_at_any_moment_leaves_the_model_usable(open_model: OpenModel) -> None:
    """As Ctrl-C would come: between any two lines, in the middle of an answer, or of the waiting for a turn."""
    model = open_model(max_tokens=16, temperature=0)
    expected = model.invoke(QUESTION).content
    moments = random.Random(7)
    before = signal.signal(signal.SIGALRM, _interrupt)
    gc.disable()  # what is raised inside a collector's callback is swallowed there
    try:
        for number in range(150):
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0005, 0.01))
                if number % 3:
                    model.invoke(f"第{number}个问题", max_tokens=3000, min_tokens=3000)
                else:
                    model.invoke(f"第{number}个问题", max_tokens=300, num_beams=3)
            signal.setitimer(signal.ITIMER_REAL, 0)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(model.invoke, QUESTION).result(timeout=30).content == expected
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
