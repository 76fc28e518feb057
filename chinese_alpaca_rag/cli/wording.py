"""The words of the command line's help, in both languages, and how they come onto typer's commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.cli.parameter_wording import PARAMETERS
from chinese_alpaca_rag.language import Language, Words

_NOTHING = Words(zh="", en="")


@dataclass(frozen=True)
class CommandWords:
    """What the help of one command says; ``examples`` are command lines, each with what it does."""

    short: Words
    more: Words = _NOTHING
    examples: tuple[tuple[str, Words], ...] = ()


COMMANDS: dict[str, CommandWords] = {
    "": CommandWords(
        Words(
            zh="向自己的文档提问、为长文写摘要，全部在本机完成，不联网。",
            en="Question answering and summaries over your own documents, all on this machine and offline.",
        ),
        Words(
            zh="先用 ingest 把文件读进知识库，再用 ask 提问。没有模型时，答案是文档中的原句；"
            "用 --model 接上模型即可生成。退出码：0 全部完成，1 有步骤失败，2 用法不对，3 完成了但有文件被拒绝。",
            en="First ingest files into the library, then ask. Without a model the answer is made of the documents' "
            "own sentences; with --model it is generated. Exit codes: 0 all done, 1 something failed, 2 wrong usage, "
            "3 done, but some files were refused.",
        ),
        (
            ("alpaca-rag ingest ~/Documents", Words(zh="读入一个文件夹", en="read a folder")),
            ('alpaca-rag ask "年假有几天？"', Words(zh="提问", en="ask")),
            ("alpaca-rag summarize report.pdf", Words(zh="写摘要", en="summarise")),
        ),
    ),
    "ingest": CommandWords(
        Words(
            zh="把文件或文件夹读进知识库；没有变化的会跳过。",
            en="Read files or folders into the library; unchanged ones are skipped.",
        ),
        Words(
            zh="每个文件是一个事务：中途停止不会损坏知识库，再运行一次会接着做完。",
            en="Each file is one transaction: stopping half-way harms nothing, and another run finishes the work.",
        ),
        (
            ("alpaca-rag ingest ~/Documents", Words(zh="读入或更新", en="read or bring up to date")),
            (
                "alpaca-rag ingest ~/Documents --prune",
                Words(zh="并移除已删除的文件", en="and take out what was deleted"),
            ),
            (
                "alpaca-rag ingest ~/Documents --watch",
                Words(zh="一直保持同步", en="and keep in step"),
            ),
            (
                "alpaca-rag ingest old.txt --encoding gb18030",
                Words(zh="指明文本的编码", en="say what encoding a text has"),
            ),
        ),
    ),
    "ask": CommandWords(
        Words(
            zh="向知识库提问；答案附有与原文核对过的引用。",
            en="Ask the library; the answer comes with citations checked against the text.",
        ),
        Words(
            zh="✓ 表示引文在所指的位置找到，✗ 表示没有找到。用 --questions 一次问很多问题：资料相近的问题只读一遍资料；"
            "--json 则每行一个 JSON 文档。",
            en="✓ marks a quote found at the place it names, ✗ one that is not there. --questions asks many at once: "
            "what questions have in common is read once; with --json each answer is a JSON document on a line.",
        ),
        (
            ('alpaca-rag ask "年假有几天？"', Words(zh="提问", en="ask")),
            (
                "echo 年假有几天？ | alpaca-rag ask -",
                Words(zh="问题来自标准输入", en="the question from standard input"),
            ),
            (
                'alpaca-rag ask "年假有几天？" --model chinese-alpaca-2-7b-16k --window 16K',
                Words(zh="由模型回答", en="answered by a model"),
            ),
            (
                "alpaca-rag ask --questions list.txt --answers out.jsonl",
                Words(zh="每行一个问题，可中断后继续", en="one a line; goes on where it stopped"),
            ),
        ),
    ),
    "search": CommandWords(
        Words(
            zh="在知识库里找段落，列出出处、得分和命中的字词。",
            en="Find passages in the library, with their places, scores and what matched.",
        ),
        Words(
            zh="引号里的文字要求一字不差：含有它的段落在前。只找一部分时用 --in、--tag、--pages、--since、--until。",
            en="What stands in quotation marks is wanted to the letter: passages with it come first. --in, --tag, "
            "--pages, --since and --until keep to a part of the library.",
        ),
        (
            ("alpaca-rag search 年假", Words(zh="字词", en="words")),
            ("alpaca-rag search '\"十五天\" 年假'", Words(zh="一字不差", en="to the letter")),
            (
                "alpaca-rag search 年假 --in ~/Documents/hr --since 2025-01-01",
                Words(zh="一个文件夹里近来改过的文件", en="files of a folder that changed lately"),
            ),
        ),
    ),
    "summarize": CommandWords(
        Words(zh="为文件或文件夹写摘要，不必先入库。", en="Summarise files or folders; the library is not needed."),
        examples=(("alpaca-rag summarize report.pdf", Words(zh="一个文件", en="one file")),),
    ),
    "sources": CommandWords(
        Words(zh="列出知识库里的文件。", en="List the files of the library."),
    ),
    "models": CommandWords(
        Words(
            zh="认识的模型：窗口、位置编码、到哪里取得。",
            en="The known models: windows, position encoding, where to get them.",
        ),
    ),
    "models list": CommandWords(
        Words(zh="列出所有认识的模型。", en="List every known model."),
    ),
    "models show": CommandWords(
        Words(zh="一个模型的全部资料。", en="Everything about one model."),
        examples=(("alpaca-rag models show chinese-alpaca-2-7b-64k", Words(zh="按名称", en="by name")),),
    ),
    "models command": CommandWords(
        Words(
            zh="启动模型服务的命令：窗口与位置编码都写全，可直接粘贴。",
            en="The command that starts a model server, window and position encoding in full, ready to paste.",
        ),
        Words(
            zh="启动时没有给对位置编码的服务会胡言乱语。默认只有本机能访问。",
            en="A server started without the right position encoding answers garbage. By default only this machine "
            "reaches it.",
        ),
        (
            (
                "alpaca-rag models command chinese-alpaca-2-7b-64k --window 64K --engine vllm",
                Words(zh="按名称，用 vLLM", en="by name, for vLLM"),
            ),
            (
                "alpaca-rag models command ~/models/alpaca.gguf --engine llama-server --kv-type q8_0",
                Words(zh="按文件，键值缓存量化", en="by file, keys and values quantised"),
            ),
        ),
    ),
    "cache": CommandWords(
        Words(
            zh="模型读过的提示词开头：保留着什么、占多少、怎样清除。",
            en="The beginnings of prompts that models have read: what is kept, its size, and clearing it.",
        ),
        Words(
            zh="同样的资料问第二个问题时，读过的部分从磁盘取回，不再计算；超过上限时，最久没有用到的先删除。",
            en="The second question about the same documents takes from disk what was read for the first. Above the "
            "limit, what was not used for longest goes first.",
        ),
    ),
    "cache list": CommandWords(
        Words(zh="列出保留着的开头和它们来自的文档。", en="List what is kept, and the documents it is from."),
    ),
    "cache clear": CommandWords(
        Words(
            zh="删除保留着的开头：全部、一个模型的、或来自某些文档的。",
            en="Remove what is kept: all, a model's, or what is from certain documents.",
        ),
        Words(
            zh="不会询问：删掉的下次会重新计算。文档离开知识库时，由它算出的内容会自动删除。",
            en="Nothing is asked: what is removed is computed again when it is needed. What was computed from a "
            "document that leaves the library is removed with it.",
        ),
        (
            ("alpaca-rag cache clear --model chinese-alpaca-2-7b-16k", Words(zh="一个模型的", en="one model's")),
            (
                "alpaca-rag cache clear --document ~/Documents",
                Words(zh="来自一个文件或文件夹的", en="what is from a file or folder"),
            ),
        ),
    ),
    "cache limit": CommandWords(
        Words(zh="显示或设定最多占用多少磁盘空间。", en="Show or set how much disk space may be used."),
        examples=(
            ("alpaca-rag cache limit 50G", Words(zh="最多 50 GiB", en="at most 50 GiB")),
            ("alpaca-rag cache limit 0", Words(zh="什么都不保留", en="keep nothing")),
        ),
    ),
    "library": CommandWords(
        Words(
            zh="照看知识库：检查、重建索引、救出、导出、压缩。",
            en="Look after the library: check, rebuild its index, rescue, export, compact.",
        ),
    ),
    "library check": CommandWords(
        Words(
            zh="检查知识库是否完好；完好时退出码为 0。",
            en="Check that the library is whole; the exit code is 0 if it is.",
        ),
    ),
    "library rebuild": CommandWords(
        Words(
            zh="由保存的文字重建全文索引；--to 则把还能读出的文件救到新的知识库。",
            en="Make the full-text index anew from the stored text; --to saves what can be read in a new library.",
        ),
        examples=(
            (
                "alpaca-rag library rebuild --to ~/rescued",
                Words(zh="从损坏的知识库救出文件", en="save the files of a damaged library"),
            ),
        ),
    ),
    "library export": CommandWords(
        Words(
            zh="导出全部文字和段落位置，每个文件一行 JSON。",
            en="Take out all text and the places of passages, one line of JSON a file.",
        ),
        examples=(("alpaca-rag library export all.jsonl", Words(zh="写入文件", en="into a file")),),
    ),
    "library compact": CommandWords(
        Words(
            zh="清除已删除文字的残留，缩小知识库文件。",
            en="Clear away what deleted text left behind, and make the library's file smaller.",
        ),
    ),
    "evaluate": CommandWords(
        Words(
            zh="用自己的问题衡量：检索能不能找到。",
            en="Measure with your own questions whether retrieval finds what it should.",
        ),
    ),
    "evaluate retrieval": CommandWords(
        Words(
            zh="前 k 个段落里有没有对的（recall@k）、排在第几（MRR），哪些问题没有找到。",
            en="How often a right passage is among the first k (recall@k), how far up (MRR), and what was missed.",
        ),
        Words(
            zh="文件里写明什么算对：source（可加 page）是出处；context 是原文，分成几段时须含 answer；只有 answer 时，"
            "含有它的段落都算。不会改动知识库。",
            en="The file says what is right: source (and page) is a place; of a context that is in several passages it "
            "is one with the answer; with an answer alone, any passage that holds it. The library is not changed.",
        ),
        (
            ("alpaca-rag evaluate retrieval questions.jsonl", Words(zh="自己的知识库", en="your library")),
            (
                "alpaca-rag evaluate retrieval cmrc2018.json --contexts --k 1,10",
                Words(zh="公开的问题集，不必入库", en="a public set of questions; no library is needed"),
            ),
        ),
    ),
    "doctor": CommandWords(
        Words(zh="检查这里能不能用、缺什么、怎么补。", en="Check what works here, what is missing and how to get it."),
        examples=(
            (
                "alpaca-rag doctor --model ~/models/alpaca.gguf",
                Words(zh="也检查一个模型文件", en="check a model file as well"),
            ),
        ),
    ),
}

USAGE = Words(zh="用法：", en="Usage: ")
ARGUMENTS = Words(zh="参数", en="Arguments")
OPTIONS = Words(zh="选项", en="Options")
SHARED_OPTIONS = Words(zh="各命令通用的选项", en="Options of every command")
SUBCOMMANDS = Words(zh="命令", en="Commands")
EXAMPLES = Words(zh="例子", en="Examples")
OPTIONS_MARK = Words(zh="[选项]", en="[OPTIONS]")
COMMAND_MARK = Words(zh="命令 …", en="COMMAND …")


def localize(command: Any, language: Language, path: str = "") -> None:
    """Put the words for ``language`` onto a typer command, its parameters and its subcommands.

    typer reads them where it completes a command line in the shell; the help page reads the tables.
    """
    command.help = COMMANDS[path].short.text(language)
    command.short_help = command.help
    for parameter in command.params:
        words = PARAMETERS[parameter.name]
        parameter.help = words.help.text(language)
        parameter.metavar = words.placeholder.text(language) or None
    for name, subcommand in getattr(command, "commands", {}).items():
        localize(subcommand, language, f"{path} {name}".strip())
