"""Ask many questions of a library in one go: ``python examples/many_questions.py LIBRARY FILE [MODEL [WINDOW]]``.

The file has one question a line. Questions that are answered from much the same passages share one prompt.
"""

import sys
from pathlib import Path

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.llms import chat_alpaca
from chinese_alpaca_rag.retrieval import LibraryRetriever


def main(library: str, file: str, model: str = "extractive", window: str = "") -> None:
    questions = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    chat = chat_alpaca(model, window=int(window) if window else None)
    chain = create_qa_chain(chat, LibraryRetriever(library_path=library))
    for number, answer in chain.batch_as_completed(questions):
        print(f"{questions[number]}\n{answer.answer}")
        print(f"({answer.receipt.evaluated_tokens} of {answer.receipt.prompt_tokens} prompt tokens evaluated)\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
