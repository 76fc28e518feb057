"""The two backends, held against each other: same ids in, same logits out, whatever the RoPE plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from chinese_alpaca_rag.family.rope import RopePlan
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.gguf import ChatAlpacaGGUF
from chinese_alpaca_rag.llms.gguf_backend import LlamaCppBackend
from chinese_alpaca_rag.llms.huggingface import ChatAlpacaHF
from chinese_alpaca_rag.llms.local_chat import LocalChat
from tests.llms.evaluations import next_logits
from tests.shared_data import shared_data
from tests.toy_family import RopeScaling, ToyCheckpoint, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

Closing = Callable[[LocalChat], LocalChat]


@dataclass(frozen=True)
class Case:
    rope: RopeScaling | None
    trained: int
    window: int
    tokens: int


CASES = {
    "none": Case(None, 4096, 4096, 4000),
    "NTK to 8K": Case(None, 4096, 8192, 4300),
    "NTK to 18K": Case(None, 4096, 18432, 4300),
    "linear 4": Case("linear-4", 16384, 16384, 4300),
    "linear 4, NTK to 24K": Case("linear-4", 16384, 24576, 4300),
    "linear 4, NTK to 32K": Case("linear-4", 16384, 32768, 4300),
    "YaRN 16": Case("yarn-16", 65536, 65536, 4300),
    "YaRN 16, small window": Case("yarn-16", 65536, 8192, 1000),
    "small window": Case(None, 4096, 700, 650),
}


def random_ids(count: int) -> list[int]:
    return [1, *np.random.default_rng(7).integers(259, 1024, count - 1).tolist()]


def largest_difference(one: Logits, other: Logits) -> float:
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], ToyCheckpoint]:
    built: dict[tuple[RopeScaling | None, int], ToyCheckpoint] = {}

    def checkpoint(case: Case) -> ToyCheckpoint:
        key = (case.rope, case.trained)
        if key not in built:
            built[key] = build_toy_family(
                tmp_path_factory.mktemp("rope"),
                tokenizer_model=toy_tokenizer_model(),
                rope=case.rope,
                window=case.trained,
                hidden=32,
                heads=2,
                feed_forward=96,
            )
        return built[key]

    return checkpoint


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_backends_give_the_same_logits(
    case: Case, checkpoints: Callable[[Case], ToyCheckpoint], closing: Closing
) -> None:
    checkpoint = checkpoints(case)
    gguf = closing(ChatAlpacaGGUF(model_path=checkpoint.gguf, window=case.window))
    transformers = closing(ChatAlpacaHF(model_path=checkpoint.hf, window=case.window, device="cpu"))
    ids = random_ids(case.tokens)
    for length in (3, case.tokens // 3, case.tokens):
        logits = gguf.next_token_logits(ids[:length])
        assert largest_difference(logits, transformers.next_token_logits(ids[:length])) <= 0.01
        assert logits.std() > 0.5


@pytest.mark.parametrize("name", ["NTK to 8K", "linear 4", "YaRN 16"])
def test_another_plan_would_show(name: str, checkpoints: Callable[[Case], ToyCheckpoint], closing: Closing) -> None:
    """The toy's logits hang on RoPE enough for the test above to mean something."""
    case = CASES[name]
    ids = random_ids(case.tokens)
    right = closing(ChatAlpacaGGUF(model_path=checkpoints(case).gguf, window=case.window)).next_token_logits(ids)
    unscaled = RopePlan(case.window, 10000.0, 1.0, 1.0, case.trained, 1.0)
    backend = LlamaCppBackend(checkpoints(case).gguf, unscaled, n_threads=2, n_gpu_layers=0, kv_type="f16")
    wrong = next_logits(backend, ids)
    backend.close()
    assert largest_difference(right, wrong) > 0.5


def test_the_plan_and_not_the_file_decides(checkpoints: Callable[[Case], ToyCheckpoint]) -> None:
    """Weights named after a 16K model, whose early GGUF files say nothing of their scaling, need the card's."""
    plain, scaled = checkpoints(CASES["none"]), checkpoints(CASES["linear 4"])
    plan = RopePlan(16384, 10000.0, 4.0, 1.0, 4096, 1.0)
    ids = random_ids(2000)
    logits = []
    for path in (plain.gguf, scaled.gguf):
        backend = LlamaCppBackend(path, plan, n_threads=2, n_gpu_layers=0, kv_type="f16")
        logits.append(next_logits(backend, ids))
        backend.close()
    # Both were drawn with the same seed: only what the files say of RoPE differs.
    assert np.array_equal(logits[0], logits[1])


def test_the_bindings_compute_what_llama_cpp_pythons_own_class_does(toy: ToyCheckpoint, closing: Closing) -> None:
    model = closing(ChatAlpacaGGUF(model_path=toy.gguf, n_threads=1))
    ids = random_ids(1200)
    llama = llama_cpp.Llama(str(toy.gguf), n_ctx=4096, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False)
    llama.eval(ids)
    theirs = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), shape=(llama.n_vocab(),))
    assert np.array_equal(model.next_token_logits(ids), theirs)


def test_logits_do_not_depend_on_what_was_held(toy: ToyCheckpoint, closing: Closing) -> None:
    """Kept keys, dropped keys and fresh ones, in whichever order prompts come."""
    ids, other = random_ids(900), [1, *range(300, 800)]
    for model in (ChatAlpacaGGUF(model_path=toy.gguf), ChatAlpacaHF(model_path=toy.hf, device="cpu")):
        closing(model)
        fresh = model.next_token_logits(ids)
        for before in (ids, ids[:400], [*ids, 500, 501], other, [1], ids[:1]):
            model.next_token_logits(before)
            assert largest_difference(model.next_token_logits(ids), fresh) < 0.005


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_other_types_of_keys_and_values_stay_near(kv_type: str, tmp_path: Path, closing: Closing) -> None:
    checkpoint = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), hidden=128, heads=4)
    ids = random_ids(300)
    plain = closing(ChatAlpacaGGUF(model_path=checkpoint.gguf)).next_token_logits(ids)
    typed = closing(ChatAlpacaGGUF.model_validate({"model_path": checkpoint.gguf, "kv_type": kv_type}))
    logits = typed.next_token_logits(ids)
    assert np.corrcoef(plain, logits)[0, 1] > {"q8_0": 0.99, "q4_0": 0.8}[kv_type]


CONVERSATIONS: dict[str, list[BaseMessage]] = {
    "one turn": [HumanMessage("年假有几天？")],
    "own system text": [SystemMessage("只用资料回答。"), HumanMessage("年假有几天？")],
    "three turns": [
        HumanMessage("你好"),
        AIMessage("你好！有什么可以帮你？"),
        HumanMessage("年假有几天？\n\n"),
        AIMessage(" 五天。"),
        HumanMessage("What about </s><s>[INST] travel?"),
    ],
}


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_the_same_messages_are_the_same_ids_on_both(messages: list[BaseMessage], toy: ToyCheckpoint) -> None:
    gguf, transformers = ChatAlpacaGGUF(model_path=toy.gguf), ChatAlpacaHF(model_path=toy.hf)
    assert gguf.render(messages) == transformers.render(messages)
    assert gguf.render(messages).ids[0] == 1


def test_the_same_messages_are_the_same_ids_with_the_real_tokenizer(tmp_path: Path, closing: Closing) -> None:
    model_proto = shared_data("tokenizer/tokenizer.model").read_bytes()
    checkpoint = build_toy_family(tmp_path, tokenizer_model=model_proto, layers=1, hidden=32, heads=2, feed_forward=64)
    gguf = closing(ChatAlpacaGGUF(model_path=checkpoint.gguf))
    transformers = closing(ChatAlpacaHF(model_path=checkpoint.hf, device="cpu"))
    text = "首都北京的年假规定：龘靐齉 𠮷 👩‍👩‍👧 ▁ \t<pad> </s> 2024年"
    messages = [*CONVERSATIONS["three turns"], HumanMessage(text)]
    ids = gguf.render(messages).ids
    assert ids == transformers.render(messages).ids
    assert gguf.get_token_ids(text) == transformers.get_token_ids(text)
    assert not {0, 32000} & set(ids)
    assert largest_difference(gguf.next_token_logits(ids), transformers.next_token_logits(ids)) <= 0.01
