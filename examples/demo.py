"""The main job, step by step, with the commands that do it: ingest a folder, ask, summarise.

``make demo`` runs this. Everything happens on this machine, with no model and no download: the embedded
reader quotes the documents. A second run finds the library up to date and is done at once.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from chinese_alpaca_rag.language import Words

EXAMPLES = Path(__file__).resolve().parent
QUESTIONS = (
    "累计工作满10年不满20年，每年有多少天年假？",
    "2024年公司的营业收入是多少？",
    "HG-G200网关的额定供电电压是多少？",
    "台中辦事處到臺北市出差，住宿費每晚上限是多少？",
    "怎么做红烧肉？",
)
LONG_DOCUMENT = "年度报告.pdf"


def run(*arguments: str) -> None:
    """Show a command and run it; the demonstration ends with it if it fails."""
    shown = " ".join(
        shlex.quote(argument) if " " in argument or "？" in argument else argument for argument in arguments
    )
    print(f"\n$ alpaca-rag {shown}", flush=True)
    code = subprocess.run([sys.executable, "-m", "chinese_alpaca_rag", *arguments], check=False).returncode
    if code:
        sys.exit(code)


def main(library: str = "build/demo-library") -> None:
    """Ingest the example documents into ``library``, ask the questions and summarise the long document."""
    documents = EXAMPLES / "documents"
    shown = documents.relative_to(Path.cwd()) if documents.is_relative_to(Path.cwd()) else documents
    run("ingest", str(shown), "--library", library)
    for question in QUESTIONS:
        run("ask", question, "--library", library)
    run("summarize", str(shown / LONG_DOCUMENT))
    print(
        Words(
            zh=f"""
接下来可以试：
  source .venv/bin/activate
  alpaca-rag ask "你的问题" --library {library}
  alpaca-rag ingest 你的文件夹             # 建立自己的知识库
  alpaca-rag ask "你的问题"
  alpaca-rag models list                   # 接入生成式模型：alpaca-rag ask … --model 名称或路径""",
            en=f"""
What to type next:
  source .venv/bin/activate
  alpaca-rag ask "your question" --library {library}
  alpaca-rag ingest YOUR_FOLDER            # a library of your own
  alpaca-rag ask "your question"
  alpaca-rag models list                   # plug in a generating model: alpaca-rag ask … --model NAME_OR_PATH""",
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:2])
