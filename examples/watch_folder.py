"""Keep a library in step with a folder and answer questions from standard input, one a line.

``python examples/watch_folder.py FOLDER LIBRARY``
"""

import subprocess
import sys

from chinese_alpaca_rag.chains import create_qa_chain
from chinese_alpaca_rag.llms import chat_alpaca
from chinese_alpaca_rag.retrieval import LibraryRetriever


def main(folder: str, library: str) -> None:
    ingest = [sys.executable, "-m", "chinese_alpaca_rag", "ingest", folder, "--library", library]
    subprocess.run(ingest, check=False, stdout=subprocess.DEVNULL)
    with subprocess.Popen([*ingest, "--watch"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as watcher:
        try:
            chain = create_qa_chain(chat_alpaca("extractive"), LibraryRetriever(library_path=library))
            for line in sys.stdin:
                print(chain.invoke(line.strip()).answer, flush=True)
        finally:
            watcher.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
