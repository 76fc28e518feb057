"""What does speculative decoding gain when guesses are right so often, and what does it cost when they never are?

    python -m benchmarks.prefix_speculation

The answer is written once without guesses. Then a drafter that knows it guesses each id rightly with a forced
probability, and the model's own rules decide how much of that to take. Tokens a second are set against plain decoding
of the same answer, in turn. The stand-in's weights are random and in half precision: among its many nearly equal
logits rounding decides, which several ids at once do otherwise than one. So that all runs write the same answer, what
was chosen is replaced by the answer's id, and how often that made a difference is printed; that answers are the same
is tested in single precision (``tests/llms/test_speculation.py``). Last, the memory of a prompt of 16K with and without
speculation.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.bench_llms import stand_in
from benchmarks.figures import figure, medians
from benchmarks.prefix_prompts import FIRST_QUESTION, documents, prompt_over
from chinese_alpaca_rag.llms import ChatAlpacaGGUF, generation
from chinese_alpaca_rag.llms.backend import Logits
from chinese_alpaca_rag.llms.pace import Pace
from chinese_alpaca_rag.llms.writing import Writing
from tests.llms.drafters import Scripted as Knowing
from tests.llms.drafters import always, generation_of, plain

REPLY_TOKENS = 256
ROUNDS = 4
PROMPT_LENGTHS = (512, 2048)
TARGETS = {0.0: 0.97, 0.5: 0.97, 0.8: 1.3}
LONG_PROMPT = 16_000
LONG_WINDOW = 18_432
ROOT = Path(__file__).resolve().parent.parent


def measure(gguf: Path) -> None:
    # Whatever makes an answer looks the name up there.
    vars(generation)["Writing"] = Scripted
    with ChatAlpacaGGUF(model_path=gguf, window=4096, temperature=0, max_tokens=REPLY_TOKENS) as model:
        for tokens in PROMPT_LENGTHS:
            forced_acceptance(model, tokens)
    vars(generation)["Writing"] = Writing
    peaks = {name: peak(gguf, name) for name in ("off", "on")}
    medians("peak memory at 16K tokens, MiB", **{f"speculation_{name}": value for name, value in peaks.items()})
    figure("speculation_memory_growth_mib", peaks["on"] - peaks["off"], "<=", 32.0)


class Scripted(Writing):
    """Chooses as ever, and then writes ``answer`` whatever was chosen."""

    answer: ClassVar[list[int]] = []
    changed: ClassVar[int] = 0

    def choose(self, logits: Logits) -> int:
        scripted = self.answer[len(self.ids)] if self.answer else None
        chosen = super().choose(logits)
        if scripted is None or chosen == scripted:
            return chosen
        Scripted.changed += 1
        return scripted


def forced_acceptance(model: ChatAlpacaGGUF, tokens: int) -> None:
    """Greedy answers to one prompt; the reply never ends early."""
    messages = prompt_over(documents(model, tokens, 5), FIRST_QUESTION)
    request = model._prepare(messages, None, {"min_tokens": REPLY_TOKENS})[1]
    Scripted.answer = []
    answer = Scripted.answer = plain(model, request).ids
    for right, target in TARGETS.items():
        rates: list[tuple[float, float]] = []
        Scripted.changed = 0
        # What evaluations take is learned once on a model, in the first round, which does not count.
        model._weights.pace = Pace()
        for number in range(ROUNDS + 1):
            guessing = always(model, Knowing(answer, right, costly=True), count=None)
            pair = [("plain", None), ("guessing", guessing)]
            told: dict[str, float] = {}
            for name, speculation in pair if number % 2 else reversed(pair):
                model._speculation_for = speculation or (lambda *_: None)
                told[name], ids = rate(model, request)
                assert ids == answer, "guesses changed the answer"
            rates.append((told["plain"], told["guessing"]))
        model._speculation_for = None
        without, with_guesses = zip(*rates[1:], strict=True)
        name = f"speculation_{tokens}_acceptance_{right:g}"
        medians(
            f"{name}, tokens a second",
            plain=statistics.median(without),
            speculative=statistics.median(with_guesses),
            chosen_otherwise_by_rounding=Scripted.changed / (2 * (ROUNDS + 1) * REPLY_TOKENS),
        )
        ratio = statistics.median(two / one for one, two in rates[1:])
        figure(f"{name}_speed_ratio", ratio, ">=", target)


def rate(model: ChatAlpacaGGUF, request: Any) -> tuple[float, list[int]]:
    """Tokens a second of the reply, the prompt left out, and its ids."""
    generation = generation_of(model, request)
    pieces = generation.pieces()
    next(pieces)
    written, began = generation.output_tokens, time.perf_counter()
    for _ in pieces:
        pass
    seconds = time.perf_counter() - began
    assert generation._writing is not None
    return (generation.output_tokens - written) / seconds, generation._writing.ids


def peak(gguf: Path, speculation: str) -> float:
    """The most memory, in MiB, that a process of its own takes for a long prompt and an answer."""
    program = json.dumps(
        {
            "work": "memory",
            "model": str(gguf),
            "window": LONG_WINDOW,
            "store": None,
            "tokens": LONG_PROMPT,
            "seed": 7,
            "speculation": speculation,
        }
    )
    command = [sys.executable, "-m", "benchmarks.prefix_processes", program]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return float(json.loads(told)["peak_mib"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measure(stand_in(Path(folder)).gguf)
