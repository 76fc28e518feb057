"""``python -m chinese_alpaca_rag`` is ``alpaca-rag``."""

from chinese_alpaca_rag.cli import main

if __name__ == "__main__":
    main()
