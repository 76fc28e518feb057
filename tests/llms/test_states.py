"""Keys and values out of one context and into another: nothing may change by it, and nothing else may get in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chinese_alpaca_rag.llms import gguf_backend
from chinese_alpaca_rag.llms.backend import Backend
from tests.llms.contexts import Opening, difference, logits_after, opened, opening, random_ids, read
from tests.toy_family import RopeScaling, ToyCheckpoint, build_toy_family
from tests.toy_lora import build_toy_lora
from tests.toy_tokenizer import toy_tokenizer_model

CUT = 64
IDS = random_ids(300)
OTHERS = random_ids(280, seed=8)


@pytest.fixture
def open_backend(one_thread: None) -> Iterator[Opening]:
    with opening() as open_it:
        yield open_it


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> ToyCheckpoint:
    """Heads of 32 numbers, as quantised keys need; two heads each share their keys and values."""
    folder = tmp_path_factory.mktemp("wide")
    return build_toy_family(folder, tokenizer_model=toy_tokenizer_model(), hidden=192, heads=6, kv_heads=3)


def states_of(backend: Backend, ids: list[int], cut: int = CUT) -> dict[int, bytes]:
    """What a backend that holds ``ids`` says of every full block, by where it starts."""
    return {start: bytes(backend.snapshot(start, start + cut)) for start in range(0, len(ids) - cut, cut)}


def put_back(backend: Backend, ids: list[int], states: dict[int, bytes], cut: int = CUT) -> None:
    assert backend.keep(ids) == 0
    for start, state in states.items():
        assert backend.restore(ids[start : start + cut], memoryview(state))


def check_exact(first: Backend, second: Backend) -> None:
    """What ``second`` computes behind states of ``first`` is what ``first`` computed, to the last bit."""
    expected = [logits_after(first, IDS)]
    states = states_of(first, IDS)
    expected += [logits_after(first, [*IDS, *range(400, 400 + count)]) for count in (1, 2, 3)]
    put_back(second, IDS, states)
    assert second.evaluated == 0
    got = [logits_after(second, [*IDS, *range(400, 400 + count)]) for count in range(4)]
    assert second.evaluated == len(IDS) - CUT * len(states) + 3
    assert [difference(one, other) for one, other in zip(expected, got, strict=True)] == [0] * 4
    assert expected[0].std() > 0.5


ROTATIONS: dict[str, tuple[RopeScaling | None, int, int]] = {
    "none": (None, 4096, 4096),
    "NTK": (None, 512, 1024),
    "linear": ("linear-4", 16384, 16384),
    "linear, NTK": ("linear-4", 2048, 4096),
    "YaRN": ("yarn-16", 65536, 8192),
}


@pytest.mark.parametrize("kind", ["gguf", "hf"])
@pytest.mark.parametrize("name", ROTATIONS)
def test_another_context_goes_on_exactly(kind: str, name: str, tmp_path: Path, open_backend: Opening) -> None:
    rope, trained, window = ROTATIONS[name]
    toy = build_toy_family(tmp_path, tokenizer_model=toy_tokenizer_model(), rope=rope, window=trained)
    check_exact(open_backend(kind, toy, window), open_backend(kind, toy, window))


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_quantised_keys_go_on_exactly(kv_type: str, wide: ToyCheckpoint, open_backend: Opening) -> None:
    check_exact(*(open_backend("gguf", wide, kv_type=kv_type) for _ in range(2)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_type_of_tensors_goes_on_exactly(dtype: str, wide: ToyCheckpoint, open_backend: Opening) -> None:
    check_exact(*(open_backend("hf", wide, dtype=dtype) for _ in range(2)))


def test_values_that_lie_crosswise_go_on_exactly(
    wide: ToyCheckpoint, open_backend: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp holds them without flash attention."""
    monkeypatch.setattr(gguf_backend, "_FLASH_ATTENTION_AUTO", 0)
    first, second = (open_backend("gguf", wide) for _ in range(2))
    check_exact(first, second)
    first.keep(IDS)
    assert bytes(first.snapshot(0, CUT))[16 + 12 * CUT] == 1


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_an_adapter_goes_on_exactly(kind: str, toy: ToyCheckpoint, tmp_path: Path, open_backend: Opening) -> None:
    lora = build_toy_lora(tmp_path, toy)
    path = lora.gguf if kind == "gguf" else lora.hf
    check_exact(*(open_backend(kind, toy, lora_path=path) for _ in range(2)))


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_states_fit_between_what_others_hold(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    """Cells lie in pieces then, in an order of their own: out of such a context and into one."""
    first = open_backend(kind, toy, 2048)
    apart = open_backend(kind, toy, 2048)
    expected = logits_after(first, IDS)
    for length in (100, 40, 200, 90, 260):
        read(apart, OTHERS[:length])
        read(apart, IDS[: length + 10])
    assert difference(logits_after(apart, IDS), expected) < 0.005
    states = states_of(apart, IDS)
    second = open_backend(kind, toy, 2048)
    put_back(second, IDS, states)
    assert difference(logits_after(second, IDS), expected) < 0.005
    read(second, OTHERS)
    second.keep(IDS[:200])
    evaluated = second.evaluated
    assert difference(logits_after(second, OTHERS), logits_after(first, OTHERS)) < 0.005
    assert second.evaluated == evaluated + 1


def test_other_sequences_make_room_for_a_state(toy: ToyCheckpoint, open_backend: Opening) -> None:
    large, small = open_backend("gguf", toy, 1024), open_backend("gguf", toy, 512)
    expected = logits_after(large, IDS)
    states = states_of(large, IDS)
    assert read(small, OTHERS) == 0
    put_back(small, IDS, states)
    assert difference(logits_after(small, IDS), expected) < 0.005
    assert read(small, OTHERS) == 0
    # With nothing left to let go of, it does not fit.
    long = random_ids(600)
    read(large, long)
    read(small, long[:480])
    assert not small.restore(long[480:540], memoryview(large.snapshot(480, 540)))
    assert small.turn_to(long) == 480


@pytest.fixture(scope="module")
def pairs(toy: ToyCheckpoint, one_thread: None) -> Iterator[dict[str, tuple[Backend, Backend]]]:
    """Of each kind, a backend that makes states and one that is handed them."""
    made = {kind: (opened(kind, toy, 1024), opened(kind, toy, 1024)) for kind in ("gguf", "hf")}
    yield made
    for backends in made.values():
        for backend in backends:
            backend.close()


def check_refused(backend: Backend, ids: list[int], state: bytes) -> None:
    """``backend`` holds the first block of ``IDS`` and, beside it, ``OTHERS``."""
    evaluated = backend.evaluated
    assert not backend.restore(ids, memoryview(state))
    assert backend.keep(IDS) == CUT
    assert backend.turn_to(OTHERS) == len(OTHERS)
    assert backend.keep(IDS) == CUT
    assert backend.evaluated == evaluated


@pytest.fixture(params=["gguf", "hf"])
def pair(request: pytest.FixtureRequest, pairs: dict[str, tuple[Backend, Backend]]) -> tuple[Backend, Backend]:
    first, second = pairs[request.param]
    first.forget()
    second.forget()
    read(first, IDS)
    read(second, OTHERS)
    read(second, IDS[:CUT])
    return first, second


def test_a_state_that_does_not_fit_changes_nothing(
    pair: tuple[Backend, Backend], wide: ToyCheckpoint, open_backend: Opening
) -> None:
    first, second = pair
    kind = "hf" if "torch" in first.state_format else "gguf"
    expected = first.logits().copy()
    right = bytes(first.snapshot(CUT, 2 * CUT))
    block = IDS[CUT : 2 * CUT]
    for ids in (block[:-1], [*block, 5], []):
        check_refused(second, ids, right)
    for state in (b"", right[:1], right[:100], right[:-1], right[: len(right) // 2], right + b"\0", right + right):
        check_refused(second, block, state)
    other = open_backend(kind, wide)
    read(other, IDS)
    check_refused(second, block, bytes(other.snapshot(CUT, 2 * CUT)))
    assert second.restore(block, memoryview(right))
    assert difference(logits_after(second, IDS), expected) < 0.005


def test_a_state_of_other_positions_is_refused(pairs: dict[str, tuple[Backend, Backend]]) -> None:
    """llama.cpp writes positions down; for tensors alone, who keeps them answers for their place."""
    first, second = pairs["gguf"]
    first.forget()
    second.forget()
    read(first, IDS)
    read(second, OTHERS)
    read(second, IDS[:CUT])
    for start in (0, 1, CUT - 1, CUT + 1, 2 * CUT):
        check_refused(second, IDS[start : start + CUT], bytes(first.snapshot(start, start + CUT)))


@pytest.mark.parametrize("others", ["q8_0", "q4_0"])
def test_a_state_of_other_keys_is_refused(others: str, wide: ToyCheckpoint, open_backend: Opening) -> None:
    first, second = open_backend("gguf", wide, 1024, kv_type=others), open_backend("gguf", wide, 1024)
    read(first, IDS)
    read(second, OTHERS)
    read(second, IDS[:CUT])
    check_refused(second, IDS[CUT : 2 * CUT], bytes(first.snapshot(CUT, 2 * CUT)))


def test_tensors_of_another_type_are_refused(wide: ToyCheckpoint, open_backend: Opening) -> None:
    """Of the same size."""
    first, second = (open_backend("hf", wide, 1024, dtype=dtype) for dtype in ("float16", "bfloat16"))
    read(first, IDS)
    read(second, OTHERS)
    read(second, IDS[:CUT])
    check_refused(second, IDS[CUT : 2 * CUT], bytes(first.snapshot(CUT, 2 * CUT)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_damage_never_ends_the_process(
    kind: str, pairs: dict[str, tuple[Backend, Backend]], data: st.DataObject
) -> None:
    first, second = pairs[kind]
    second.forget()
    read(first, IDS)
    read(second, OTHERS)
    read(second, IDS[:CUT])
    state = bytearray(first.snapshot(CUT, 2 * CUT))
    # Most of what can go wrong stands at the start, and before the keys.
    places = st.one_of(st.integers(0, 16 + 12 * CUT + 40), st.integers(0, len(state) - 1))
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        state[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(state)), st.integers(0, len(state))))
    taken = second.restore(IDS[CUT : 2 * CUT], memoryview(state[:cut]))
    assert second.turn_to(IDS) == (2 * CUT if taken else CUT)
    assert second.turn_to(OTHERS) == len(OTHERS)
    assert difference(logits_after(second, IDS[: CUT + 1]), logits_after(first, IDS[: CUT + 1])) < 0.005


def test_a_state_is_a_safetensors_file(toy: ToyCheckpoint, open_backend: Opening) -> None:
    backend: Any = open_backend("hf", toy)
    read(backend, IDS)
    tensors = safetensors.torch.load(bytes(backend.snapshot(10, 30)))
    assert sorted(tensors) == ["keys.0", "keys.1", "values.0", "values.1"]
    for index, layer in enumerate(backend._cache.layers):
        assert tensors[f"keys.{index}"].equal(layer.keys[..., 10:30, :])
        assert tensors[f"values.{index}"].equal(layer.values[..., 10:30, :])


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_a_state_outlives_what_comes_after_it(kind: str, toy: ToyCheckpoint, open_backend: Opening) -> None:
    """Memory is used again, but not while somebody looks at it; wherever a state lies in memory, it fits."""
    backend = open_backend(kind, toy)
    read(backend, IDS)
    state = memoryview(backend.snapshot(0, CUT))
    part = state[8:]
    copies = bytes(state), bytes(part)
    for start in range(0, 5 * 40, 40):
        state = memoryview(backend.snapshot(start, start + 40))
    assert bytes(part) == copies[1]
    assert state.nbytes < len(copies[0])
    backend.forget()
    askew = memoryview(b"\0" + copies[0])[1:]
    assert backend.restore(IDS[:CUT], askew)
    assert backend.turn_to(IDS) == CUT
