"""Kept prefixes when something goes wrong: the answer comes, it is right, and nothing is in anybody's way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chinese_alpaca_rag.llms import prefix_saving
from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.conftest import OpenModel
from tests.llms.test_prefixes import SOURCES, asked, over
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


def test_after_the_store_was_cleared_it_fills_again(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as model:
        asked(model, over(SOURCES[:4], "谁有年假？"))
        model.finish_saving()
        PrefixStore(store).clear()
        # The first of these finds that what it follows on is gone; the next one saves all of it.
        for question in ("年假有几天？", "满十年呢？"):
            asked(model, over(SOURCES, question))
            model.finish_saving()
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as second:
        assert asked(second, over(SOURCES, "谁有年假？"))[2] < 40


def test_what_comes_faster_than_the_disk_is_saved_afterwards(
    open_model: OpenModel, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_saving, "MOST_WAITING", 0)
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as first:
        expected, sent, evaluated = asked(first, over(SOURCES, "谁有年假？"))
        assert evaluated == sent
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as second:
        text, _, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert text == expected
        assert evaluated < 40


def test_without_room_on_the_disk_the_answer_comes_all_the_same(
    open_model: OpenModel, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.parent.mkdir(exist_ok=True)
    store.write_text("a file stands where the folder should")
    with open_model(temperature=0, max_tokens=6, prefix_store=store) as model:
        text, sent, evaluated = asked(model, over(SOURCES, "谁有年假？"))
        assert evaluated == sent
        problem = model.finish_saving()
        assert problem is not None and str(store) in problem.en
        assert asked(model, over(SOURCES, "年假有几天？"))[2] < 40
    with open_model(temperature=0, max_tokens=6) as plain:
        assert asked(plain, over(SOURCES, "谁有年假？"))[0] == text


def test_damage_is_found_and_the_answer_is_right(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as first:
        expected = asked(first, over(SOURCES, "谁有年假？"))[0]
    blocks = sorted(file for file in store.rglob("*") if file.is_file() and file.stat().st_size > 4096)
    assert len(blocks) > 4
    for number, block in enumerate(blocks):
        content = bytearray(block.read_bytes())
        content[-1 - 97 * number] ^= 0x40
        block.write_bytes(content)
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as second:
        text, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert (text, evaluated) == (expected, sent)
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as third:
        text, _, evaluated = asked(third, over(SOURCES, "谁有年假？"))
        assert text == expected
        assert evaluated < 40


def test_a_call_that_was_called_off_before_it_had_the_model_leaves_it_to_others(
    open_gguf: OpenModel, store: Path
) -> None:
    cancelled = Cancellation()
    cancelled.set()
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as second:
        with pytest.raises(EvaluationStopped):
            second._answer(over(SOURCES, "谁有年假？"), None, {}, cancelled)
        assert asked(second, over(SOURCES, "谁有年假？"))[2] < 40


def test_a_block_that_cannot_be_read_is_computed(
    open_gguf: OpenModel, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as first:
        expected = asked(first, over(SOURCES, "谁有年假？"))[0]
    # The file stands there, and nothing comes of it: no memory, no descriptors left, another owner now.
    monkeypatch.setattr(PrefixStore, "read", lambda *_: None)
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as second:
        text, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert (text, evaluated) == (expected, sent)


def test_an_interruption_leaves_no_claim_behind(
    open_gguf: OpenModel, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as model:
        with monkeypatch.context() as patch:
            patch.setattr(prefix_saving.Saver, "save", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                asked(model, over(SOURCES, "谁有年假？"))
        assert asked(model, over(SOURCES, "谁有年假？"))[0]
        model.finish_saving()
    assert PrefixStore(store).usage().blocks > 4


def _interrupted(*_: object) -> bool:
    raise KeyboardInterrupt


def test_weights_that_are_replaced_are_not_taken_for_the_old_ones(
    open_gguf: OpenModel, toy: ToyCheckpoint, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "chinese-alpaca-2-toy.gguf"
    shutil.copy(toy.gguf, path)
    other = build_toy_family(tmp_path / "other", tokenizer_model=toy_tokenizer_model(), seed=9).gguf
    prompt = over(SOURCES, "谁有年假？")
    with open_gguf(model_path=other, temperature=0, max_tokens=8) as plain:
        expected = asked(plain, prompt)[0]
    with open_gguf(model_path=path, temperature=0, max_tokens=8, prefix_store=store) as model:
        asked(model, prompt)
        model.close()
        other.replace(path)
        text, sent, evaluated = asked(model, prompt)
        assert (text, evaluated) == (expected, sent)


def test_weights_replaced_while_they_are_in_use_are_kept_nothing_of(
    open_gguf: OpenModel, toy: ToyCheckpoint, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "chinese-alpaca-2-toy.gguf"
    shutil.copy(toy.gguf, path)
    other = build_toy_family(tmp_path / "other", tokenizer_model=toy_tokenizer_model(), seed=9).gguf
    with open_gguf(model_path=path, temperature=0, max_tokens=2, prefix_store=store) as model:
        with model._alone():
            model._opened()
        other.replace(path)
        assert asked(model, over(SOURCES, "谁有年假？"))[0]
        problem = model.finish_saving()
        assert problem is not None and "replaced" in problem.en
    assert PrefixStore(store).usage().blocks == 0
