"""What the plan says is what llama.cpp does, whatever the header of the file says."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from chinese_alpaca_rag.family.checkpoint import read_checkpoint
from chinese_alpaca_rag.family.rope import RopePlan, plan_rope
from tests.toy_family import RopeScaling, build_toy_family
from tests.toy_tokenizer import toy_tokenizer_model

IDS = [1, *(259 + (number * 37) % 700 for number in range(300))]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[RopeScaling | None, Path]:
    """The same weights under three headers, all with an original window of 256 tokens."""
    folder = tmp_path_factory.mktemp("rope")
    windows: dict[RopeScaling | None, int] = {None: 256, "linear-4": 1024, "yarn-16": 4096}
    return {
        rope: build_toy_family(folder / str(rope), tokenizer_model=toy_tokenizer_model(), window=window, rope=rope).gguf
        for rope, window in windows.items()
    }


def logits(file: Path, plan: RopePlan, **arguments: Any) -> npt.NDArray[np.float32]:
    """The logits after the last of ``IDS``, with the plan's words unless others are given."""
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(
        str(file),
        n_ctx=512,
        n_batch=512,
        n_threads=1,
        logits_all=False,
        verbose=False,
        **(arguments or plan.for_llama_cpp()),
    )
    try:
        model.eval(IDS)
        pointer = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(model.n_vocab(),)).copy()
    finally:
        model.close()


@pytest.mark.parametrize("stated", [None, "linear-4", "yarn-16"])
def test_the_plan_stands_against_the_header(files: dict[RopeScaling | None, Path], stated: RopeScaling | None) -> None:
    cards = {rope: read_checkpoint(file).card for rope, file in files.items()}
    plans = [(rope, plan_rope(card)) for rope, card in cards.items()]
    plans.append((None, plan_rope(cards[None], 512)))
    seen = []
    for rope, plan in plans:
        seen.append(logits(files[stated], plan))
        np.testing.assert_allclose(seen[-1], logits(files[rope], plan), atol=1e-4)
    for one, two in combinations(seen, 2):
        assert np.abs(one - two).max() > 0.05


def test_a_card_read_from_the_header_gives_what_llama_cpp_reads_there(files: dict[RopeScaling | None, Path]) -> None:
    for file in files.values():
        plan = plan_rope(read_checkpoint(file).card)
        by_itself = {"rope_freq_base": 0.0, "rope_freq_scale": 0.0}  # 0: from the GGUF
        np.testing.assert_allclose(logits(file, plan), logits(file, plan, **by_itself), atol=1e-4)
