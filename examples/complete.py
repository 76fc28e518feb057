"""A base model goes on with a text: ``python examples/complete.py MODEL TEXT``. Base models follow no instruction."""

import sys
from pathlib import Path

from chinese_alpaca_rag.llms import AlpacaGGUF, AlpacaHF


def main(model: str, text: str) -> None:
    kind = AlpacaHF if Path(model).is_dir() else AlpacaGGUF
    with kind(model_path=model, max_tokens=100) as writer:
        for piece in writer.stream(text):
            print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
