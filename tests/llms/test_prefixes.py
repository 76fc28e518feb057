"""Prompts that begin as earlier ones did: what is evaluated again, and what never may be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from chinese_alpaca_rag.llms.cancellation import Cancellation, EvaluationStopped
from chinese_alpaca_rag.llms.interface import SEGMENTS
from chinese_alpaca_rag.llms.local_chat import LocalChat
from chinese_alpaca_rag.llms.prefix_store import PrefixStore
from tests.llms.conftest import OpenModel
from tests.toy_family import ToyCheckpoint, build_toy_family
from tests.toy_lora import build_toy_lora
from tests.toy_tokenizer import toy_tokenizer_model

SOURCES = [
    f"[{n}] 手册 · 第 {n} 页\n正式员工每年享有带薪年假{n}天，工作满{n}年的员工另有安排。\n\n" for n in range(1, 9)
]
ROOT = Path(__file__).resolve().parents[2]


def over(sources: list[str], question: str) -> list[BaseMessage]:
    """A prompt with one segment a source."""
    ends = [[len("".join(sources[: number + 1])), f"file {number}"] for number in range(len(sources))]
    return [
        SystemMessage("只依据资料回答。"),
        HumanMessage("".join(sources) + question, additional_kwargs={SEGMENTS: ends}),
    ]


def asked(model: LocalChat, prompt: list[BaseMessage]) -> tuple[str, int, int]:
    """The answer, its prompt's tokens, and how many of them the backend really evaluated."""
    backend = model._backend
    before = backend.evaluated if backend else 0
    answer = model.invoke(prompt, speculation="off")  # guesses that are wrong are evaluated too
    backend = model._backend
    assert backend is not None and answer.usage_metadata is not None
    written = answer.usage_metadata["output_tokens"]
    sent = answer.usage_metadata["input_tokens"]
    evaluated = backend.evaluated - before
    # All but the last of the reply's ids are evaluated as well, and the last one where the end was chosen behind it.
    assert sent - answer.usage_metadata["input_token_details"]["cache_read"] in (
        evaluated - written,
        evaluated - written + 1,
    )
    return str(answer.content), sent, sent - answer.usage_metadata["input_token_details"]["cache_read"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "prefixes"


@pytest.fixture(scope="module")
def wide_heads(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """Quantised keys come in blocks of 32."""
    return build_toy_family(
        tmp_path_factory.mktemp("wide"), tokenizer_model=toy_tokenizer_model(), hidden=64, heads=2, layers=2
    )


def test_another_context_takes_what_the_first_one_kept(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=12) as plain:
        expected = asked(plain, over(SOURCES, "年假有几天？"))[0]
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as first:
        _, sent, evaluated = asked(first, over(SOURCES, "谁有年假？"))
        assert evaluated == sent
        assert first.finish_saving() is None
    with open_model(temperature=0, max_tokens=12, prefix_store=store) as second:
        text, sent, evaluated = asked(second, over(SOURCES, "年假有几天？"))
    assert text == expected
    assert evaluated < 40 < sent / 4


def test_fewer_sources_and_others_behind_them_take_what_they_share(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as second:
        _, sent, evaluated = asked(second, over([*SOURCES[:4], "[5] 别的\n没有人读过的一份资料。\n\n"], "年假有几天？"))
        assert evaluated < 70 < sent / 2


@pytest.mark.parametrize(
    "other",
    [
        {"alpha": 3.0, "window": 6144},
        {"alpha": 2.5, "window": 6144},
        {"kv_type": "q8_0"},
        {"kv_type": "q4_0"},
    ],
    ids=str,
)
def test_nothing_is_taken_over_to_other_options(
    open_gguf: OpenModel, wide_heads: ToyCheckpoint, store: Path, other: dict[str, Any]
) -> None:
    said = {"model_path": wide_heads.gguf, "prefix_store": store, "alpha": 2.0, "window": 6144}
    with open_gguf(temperature=0, max_tokens=2, **said) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    with open_gguf(temperature=0, max_tokens=2, **said | other) as second:
        _, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert evaluated == sent
    with open_gguf(temperature=0, max_tokens=2, **said) as again:
        assert asked(again, over(SOURCES, "谁有年假？"))[2] < 40


def test_a_longer_window_with_the_same_rotation_takes_it_over(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=2, prefix_store=store, window=2048) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    with open_model(temperature=0, max_tokens=2, prefix_store=store, window=4096) as second:
        assert asked(second, over(SOURCES, "谁有年假？"))[2] < 40


def test_one_changed_weight_changes_everything(
    open_model: OpenModel, toy: ToyCheckpoint, store: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "chinese-alpaca-2-toy-changed"
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as first:
        kind = first.backend_format
        asked(first, over(SOURCES, "谁有年假？"))
    if kind == "gguf":
        changed = changed.with_suffix(".gguf")
        shutil.copy(toy.gguf, changed)
        file = changed
    else:
        shutil.copytree(toy.hf, changed)
        file = changed / "model.safetensors"
    with open_model(temperature=0, max_tokens=2, prefix_store=store, model_path=changed) as same:
        assert asked(same, over(SOURCES, "谁有年假？"))[2] < 40
    with file.open("r+b") as weights:
        weights.seek(-64, 2)
        byte = weights.read(1)
        weights.seek(-64, 2)
        weights.write(bytes([byte[0] ^ 1]))
    with open_model(temperature=0, max_tokens=2, prefix_store=store, model_path=changed) as other:
        _, sent, evaluated = asked(other, over(SOURCES, "谁有年假？"))
        assert evaluated == sent


def test_a_document_that_goes_takes_what_was_computed_from_it_along(open_model: OpenModel, store: Path) -> None:
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    assert PrefixStore(store).forget_documents(lambda label: label == "file 3")
    left = {label for entry in PrefixStore(store).entries() for label in entry.labels}
    assert left == {"file 0", "file 1", "file 2"}
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as second:
        _, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert sent / 3 < evaluated < sent


def test_a_prompt_that_is_called_off_keeps_what_it_had_read(open_model: OpenModel, store: Path) -> None:
    cancelled = Cancellation()
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as first:
        rendered = first.render(over(SOURCES, "谁有年假？"))
        with first._alone():
            backend = first._opened()
            evaluate = backend.evaluate

            def evaluate_some(ids: Any, outputs: int = 1) -> None:
                evaluate(ids, outputs)
                if backend.evaluated > len(rendered.ids) // 2:
                    cancelled.set()

            backend.evaluate = evaluate_some  # type: ignore[method-assign]
            backend.watch(cancelled)
            assert first._prefixes.prefill(backend, rendered.ids, rendered.segments, cancelled) is None
    with open_model(temperature=0, max_tokens=2, prefix_store=store) as second:
        _, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert evaluated < 0.6 * sent


def test_a_batch_takes_and_keeps_what_its_prompts_share(open_model: OpenModel, store: Path) -> None:
    prompts = [over(SOURCES, question) for question in ("谁有年假？", "年假有几天？", "满十年呢？")]
    with open_model(temperature=0, max_tokens=6, prefix_store=store) as first:
        expected = [answer.content for answer in first.batch(prompts)]
    with open_model(temperature=0, max_tokens=6, prefix_store=store) as second:
        answers = second.batch(prompts)
        assert [answer.content for answer in answers] == expected
        usage = answers[0].usage_metadata
        assert usage is not None
        assert usage["input_token_details"]["cache_read"] > 0.7 * usage["input_tokens"]


def test_an_adapter_has_prefixes_of_its_own(
    open_gguf: OpenModel, toy: ToyCheckpoint, store: Path, tmp_path: Path
) -> None:
    adapter = build_toy_lora(tmp_path, toy).gguf
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as first:
        asked(first, over(SOURCES, "谁有年假？"))
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store, lora_path=adapter) as second:
        _, sent, evaluated = asked(second, over(SOURCES, "谁有年假？"))
        assert evaluated == sent


@pytest.mark.parametrize("rope", [None, "linear-4", "yarn-16"], ids=str)
@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_with_a_hit_every_bit_is_the_same(
    kind: str, rope: Any, request: pytest.FixtureRequest, tmp_path: Path, store: Path
) -> None:
    toy = build_toy_family(
        tmp_path, tokenizer_model=toy_tokenizer_model(), rope=rope, window=4096 if rope is None else 16384
    )
    open_it: OpenModel = request.getfixturevalue(f"open_{kind}")
    path = toy.gguf if kind == "gguf" else toy.hf
    with open_it(model_path=path) as plain:
        prompt = plain.render(over(SOURCES, "谁有年假？"))
        fresh = plain.next_token_logits(prompt.ids, prompt.segments)
    with open_it(model_path=path, prefix_store=store) as first:
        first.next_token_logits(prompt.ids, prompt.segments)
    with open_it(model_path=path, prefix_store=store) as second:
        restored = second.next_token_logits(prompt.ids, prompt.segments)
        backend = second._backend
        assert backend is not None
        assert backend.evaluated < 40
    assert np.array_equal(fresh, restored)


def test_two_processes_at_once_do_nothing_twice_but_one_block(toy: ToyCheckpoint, store: Path) -> None:
    program = """
import json, sys
from pathlib import Path
from tests.llms.test_prefixes import SOURCES, over
from chinese_alpaca_rag.llms import ChatAlpacaGGUF
path, store, question = sys.argv[1:]
with ChatAlpacaGGUF(model_path=path, n_threads=1, prefix_store=store, max_tokens=1) as model:
    model.invoke("你好")
    print("ready", flush=True)
    sys.stdin.readline()
    before = model._backend.evaluated
    answer = model.invoke(over([source * 6 for source in SOURCES], question))
    print(json.dumps([model._backend.evaluated - before, answer.usage_metadata["input_tokens"]]), flush=True)
"""
    command = [sys.executable, "-c", program, str(toy.gguf), str(store)]
    processes = [
        subprocess.Popen([*command, question], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for question in ("谁有年假？", "年假有几天？")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    (one, sent), (other, _) = [json.loads(process.communicate()[0]) for process in processes]
    # Both questions, and at most one block computed by both.
    assert one + other < sent + 2 * 40 + 512
    assert PrefixStore(store).usage().blocks >= 8


def test_an_interrupted_prompt_is_an_answer_that_never_came(open_gguf: OpenModel, store: Path) -> None:
    cancelled = Cancellation()
    cancelled.set()
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as model:
        with pytest.raises(EvaluationStopped):
            model._answer(over(SOURCES, "谁有年假？"), None, {}, cancelled)
        assert asked(model, over(SOURCES, "谁有年假？"))[0]


def test_a_limit_of_nothing_keeps_nothing_and_complains_of_nothing(open_gguf: OpenModel, store: Path) -> None:
    PrefixStore(store).set_limit(0)
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as model:
        asked(model, over(SOURCES, "谁有年假？"))
        assert model.finish_saving() is None
    assert PrefixStore(store).usage().blocks == 0


def test_a_batch_tells_what_was_really_evaluated(open_model: OpenModel) -> None:
    prompts = [over(SOURCES, question) for question in ("谁有年假？", "年假有几天？", "满十年呢，有几天？")]
    with open_model(temperature=0, max_tokens=1) as model:
        answers = model.batch(prompts)
        backend = model._backend
        assert backend is not None
        usages = [answer.usage_metadata for answer in answers]
        told = sum(
            usage["input_tokens"] - usage["input_token_details"]["cache_read"] for usage in usages if usage is not None
        )
        assert told == backend.evaluated


def test_a_stretch_of_several_documents_goes_with_each_of_them(open_gguf: OpenModel, store: Path) -> None:
    text = SOURCES[0] * 3
    ends = [[len(text), "file 1"], [len(text), "file 2"]]
    prompt: list[BaseMessage] = [HumanMessage(text + "谁有年假？", additional_kwargs={SEGMENTS: ends})]
    with open_gguf(temperature=0, max_tokens=2, prefix_store=store) as model:
        asked(model, prompt)
    assert {label for entry in PrefixStore(store).entries() for label in entry.labels} == {"file 1", "file 2"}
    assert PrefixStore(store).forget_documents(lambda label: label == "file 2")
