"""What a backend promises of one evaluation: how many logits, how many ids, and what is left of one that failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chinese_alpaca_rag.errors import ModelError
from chinese_alpaca_rag.llms.backend import Backend
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from tests.llms.contexts import Opening, difference, logits_after, opening, random_ids, read
from tests.toy_family import ToyCheckpoint

IDS = random_ids(300)
KINDS = pytest.mark.parametrize("kind", ["gguf", "hf"])


@pytest.fixture
def open_backend(one_thread: None) -> Iterator[Opening]:
    with opening() as open_it:
        yield open_it


@KINDS
def test_several_logits_are_those_of_single_steps(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend, single = open_backend(kind, toy), open_backend(kind, toy)
    read(backend, IDS[:200])
    read(single, IDS[:200])
    expected = []
    for index in IDS[200 : 200 + backend.max_outputs]:
        single.evaluate([index])
        expected.append(single.logits().copy())
    assert difference(expected[0], expected[1]) > 0.5
    for outputs in (1, 2, backend.max_outputs):
        backend.drop(200)
        backend.evaluate(IDS[200 : 200 + backend.max_outputs], outputs)
        for back in range(outputs):
            assert difference(backend.logits(back), expected[-1 - back]) < 0.005
    # Behind a whole batch as well.
    backend.drop(0)
    backend.evaluate(IDS[: 200 + backend.max_outputs], backend.max_outputs)
    assert difference(backend.logits(3), expected[-4]) < 0.005


@KINDS
def test_what_was_dropped_leaves_no_trace(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend, other = open_backend(kind, toy), open_backend(kind, toy)
    read(backend, IDS[:100])
    for position in (100, 99, 64, 7, 0):
        backend.evaluate(random_ids(20, seed=position), 5)
        backend.drop(position)
        assert backend.turn_to(IDS) == (position if position >= 16 else min(position, len(IDS)))
        assert difference(logits_after(backend, IDS), logits_after(other, IDS)) < 0.005
        backend.drop(position)


@KINDS
def test_what_is_evaluated_is_counted(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend = open_backend(kind, toy)
    assert backend.evaluated == 0
    read(backend, IDS[:50])
    assert backend.evaluated == 50
    backend.evaluate(IDS[50:60], 10)
    backend.drop(55)
    assert backend.evaluated == 60
    backend.fork(3)
    backend.extend([[5, 6, 7], [], [8]])
    assert backend.evaluated == 64
    backend.keep([*IDS[:40], 5])
    state = backend.snapshot(8, 40)
    backend.forget()
    assert not backend.restore([], memoryview(state))
    assert backend.evaluated == 64


@KINDS
def test_what_was_called_off_is_not_counted(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend, other = open_backend(kind, toy), open_backend(kind, toy)
    read(backend, IDS[:100])
    cancelled = Cancellation()
    cancelled.set()
    backend.watch(cancelled)
    with pytest.raises(EvaluationStopped):
        backend.evaluate(IDS[100:200], 3)
    backend.fork(2)
    with pytest.raises(EvaluationStopped):
        backend.extend([IDS[100:150], IDS[100:120]])
    assert backend.evaluated == 100
    backend.watch(Cancellation())
    assert read(backend, IDS) == 100
    assert difference(backend.logits(), logits_after(other, IDS)) < 0.005


def test_what_does_not_fit_is_not_counted(toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend = open_backend("gguf", toy, 256)
    read(backend, IDS[:250])
    with pytest.raises(ModelError, match="250"):
        backend.evaluate(IDS[250:260])
    assert backend.evaluated == 250
    backend.evaluate(IDS[250:256])
    backend.fork(2)
    with pytest.raises(ModelError):
        backend.extend([[5], [6]])
    assert backend.evaluated == 256
    assert backend.keep([*IDS[:256], 5]) == 256


def test_more_than_a_batch_holds_is_refused_before_llama_cpp_ends_the_process(
    toy: ToyCheckpoint, open_backend: Opening
) -> None:
    backend = open_backend("gguf", toy)
    with pytest.raises(ValueError, match="521"):
        backend.evaluate(random_ids(521))
    for outputs in (0, 6, 17):
        with pytest.raises(ValueError, match=str(outputs)):
            backend.evaluate(random_ids(5 if outputs == 6 else 100), outputs)
    assert backend.evaluated == 0
    assert read(backend, IDS) == 0


def failing(backend: Any, monkeypatch: pytest.MonkeyPatch, times: int, text: str) -> None:
    """From now on the last layer fails so many times, when the others hold the new ids already."""
    layer, left = backend._model.model.layers[-1], [times]
    forward = layer.forward

    def fail(*arguments: Any, **named: Any) -> Any:
        result = forward(*arguments, **named)
        if left[0]:
            left[0] -= 1
            raise RuntimeError(text)
        return result

    monkeypatch.setattr(layer, "forward", fail)


def test_memory_that_runs_out_is_taken_from_the_other_sequences(
    toy: ToyCheckpoint, open_backend: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Backend = open_backend("hf", toy)
    others = random_ids(200, seed=8)
    read(backend, others)
    read(backend, IDS[:100])
    failing(backend, monkeypatch, 1, "CUDA out of memory")
    expected = logits_after(open_backend("hf", toy), IDS)
    read(backend, IDS)
    assert difference(backend.logits(), expected) < 0.005
    assert backend.evaluated == len(IDS) + len(others)
    assert backend.turn_to(others) == 0
    failing(backend, monkeypatch, 1, "CUDA out of memory")
    with pytest.raises(ModelError, match="405"):
        backend.evaluate([*range(400, 405)] * 21)
    assert read(backend, IDS) == 0


def test_another_failure_is_not_tried_again(
    toy: ToyCheckpoint, open_backend: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend("hf", toy)
    read(backend, random_ids(200, seed=8))
    read(backend, IDS[:100])
    failing(backend, monkeypatch, 1, "no kernel image")
    with pytest.raises(RuntimeError, match="no kernel image"):
        backend.evaluate(IDS[100:120])
    assert read(backend, IDS) == 0
