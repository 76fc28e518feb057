"""One process of a benchmark about kept prefixes: it opens the model, does one thing, and tells what it took.

    python -m benchmarks.prefix_processes '{"model": "…", "store": "…", "work": "read", …}'

``read`` answers a question over the documents, waits until all is kept, says so, and waits to be killed.
``ask`` answers another question over them, and one over documents that nobody has read yet. ``memory`` tells what a
long prompt takes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.prefix_prompts import FIRST_QUESTION, SECOND_QUESTION, documents, prompt_over
from chinese_alpaca_rag.llms import ChatAlpacaGGUF


def main(told: dict[str, Any]) -> None:
    tokens, seed = told["tokens"], told["seed"]
    if told["work"] == "memory":
        tell_memory(told)
        return
    model = ChatAlpacaGGUF(model_path=told["model"], window=told["window"], prefix_store=told["store"], max_tokens=1)
    # Loaded, and every page of the weights touched: what is compared is reading documents.
    model.invoke("你好")
    read = prompt_over(documents(model, tokens, seed), FIRST_QUESTION if told["work"] == "read" else SECOND_QUESTION)
    if told["work"] == "read":
        model.invoke(read)
        problem = model.finish_saving()
        print(json.dumps({"problem": str(problem) if problem else None}), flush=True)
        time.sleep(600)
        return
    unread = prompt_over(documents(model, tokens, seed + 1_000_000), SECOND_QUESTION)
    told_times: dict[str, Any] = {}
    for name in told["order"]:
        if name == "restored" and told["cold_page_cache"]:
            forget_pages(Path(told["store"]))
        began = time.perf_counter()
        answer = model.invoke(read if name == "restored" else unread)
        told_times[name] = time.perf_counter() - began
        usage = answer.usage_metadata
        assert usage is not None
        told_times[f"{name}_reused"] = usage["input_token_details"]["cache_read"] / usage["input_tokens"]
    print(json.dumps(told_times), flush=True)
    model.close()


def tell_memory(told: dict[str, Any]) -> None:
    """The most memory that a long prompt and 64 tokens of an answer take."""
    options: dict[str, Any] = {"window": told["window"], "speculation": told["speculation"], "temperature": 0}
    with ChatAlpacaGGUF(model_path=told["model"], max_tokens=64, **options) as model:
        model.invoke(prompt_over(documents(model, told["tokens"], told["seed"]), SECOND_QUESTION), min_tokens=64)
    print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def forget_pages(folder: Path) -> None:
    """Have the system drop the folder's files from its page cache, as after a day of other work."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
