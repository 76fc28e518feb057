"""The words of the command line's help, in both languages, and how they come onto typer's commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chinese_alpaca_rag.language import Language, Words

_NOTHING = Words(zh="", en="")


@dataclass(frozen=True)
class CommandWords:
    """What the help of one command says; ``examples`` are command lines, each with what it does."""

    short: Words
    more: Words = _NOTHING
    examples: tuple[tuple[str, Words], ...] = ()


@dataclass(frozen=True)
class ParameterWords:
    """What the help of one option or argument says; ``placeholder`` stands for its value."""

    help: Words
    placeholder: Words = _NOTHING


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

PARAMETERS: dict[str, ParameterWords] = {
    "paths": ParameterWords(
        Words(zh="文件或文件夹，可以有多个", en="files or folders, one or more"), Words(zh="路径…", en="PATH…")
    ),
    "question": ParameterWords(
        Words(zh="要问的话；写 - 则从标准输入读取", en="what to ask; - reads it from standard input"),
        Words(zh="问题", en="QUESTION"),
    ),
    "questions": ParameterWords(
        Words(
            zh="一次问文件里的所有问题：每行一个（# 开头的行跳过），或每行一个 JSON（.jsonl）；- 为标准输入",
            en="ask every question of a file: one a line (# skips a line), or a .jsonl of objects; - is standard input",
        ),
        Words(zh="文件", en="FILE"),
    ),
    "answers": ParameterWords(
        Words(
            zh="把答案逐条追加到这个文件（JSON 行）；再次运行时跳过其中已有的",
            en="append each answer to this file as a line of JSON; another run skips what is answered there",
        ),
        Words(zh="文件", en="FILE"),
    ),
    "name": ParameterWords(
        Words(zh="模型的名称、Hub 名称或路径", en="a model's name, hub name or path"), Words(zh="名称", en="NAME")
    ),
    "prune": ParameterWords(
        Words(
            zh="把给定文件夹里已不存在的文件从知识库移除",
            en="take files that are gone from the given folders out of the library",
        )
    ),
    "encoding": ParameterWords(
        Words(
            zh="文本文件的编码，例如 gb18030；默认自动判断",
            en="encoding of text files, such as gb18030; found out by default",
        ),
        Words(zh="编码", en="NAME"),
    ),
    "password": ParameterWords(
        Words(
            zh="打开加密 PDF 的密码；写 - 则在运行时输入，不显示",
            en="password of encrypted PDF files; - asks for it without showing it",
        ),
        Words(zh="密码", en="TEXT"),
    ),
    "tag": ParameterWords(
        Words(zh="给这些文件加上标签，可以写多个", en="put a tag on these files; may be given more than once"),
        Words(zh="标签", en="TAG"),
    ),
    "watch": ParameterWords(
        Words(
            zh="一直守候这些文件夹，有变化就更新（已删除的一并移除），直到按 Ctrl-C",
            en="go on watching and keep the library in step, deletions included, until Ctrl-C",
        )
    ),
    "passages": ParameterWords(
        Words(zh="最多检索几个段落（默认 12）", en="how many passages to retrieve at most (default 12)"),
        Words(zh="个数", en="K"),
    ),
    "engine": ParameterWords(
        Words(
            zh="服务的种类：vllm、llama-server（默认）或 llama-cpp-python",
            en="the kind of server: vllm, llama-server (the default) or llama-cpp-python",
        ),
        Words(zh="名称", en="NAME"),
    ),
    "host": ParameterWords(
        Words(zh="监听的地址；默认 127.0.0.1，只有本机", en="address to listen at; 127.0.0.1, this machine only"),
        Words(zh="地址", en="ADDRESS"),
    ),
    "port": ParameterWords(
        Words(zh="监听的端口；默认 8080，vllm 等为 8000", en="port to listen at; 8080, or 8000 for vllm and Python"),
        Words(zh="端口", en="PORT"),
    ),
    "kv_type": ParameterWords(
        Words(
            zh="键值缓存的类型：f16（默认）、q8_0 或 q4_0",
            en="how keys and values are held: f16 (the default), q8_0 or q4_0",
        ),
        Words(zh="类型", en="TYPE"),
    ),
    "document": ParameterWords(
        Words(zh="只删除来自这个文件或文件夹的", en="only what is from this file or folder"),
        Words(zh="路径", en="PATH"),
    ),
    "size": ParameterWords(
        Words(
            zh="上限，如 20G 或 500M；0 表示什么都不保留；省略则显示现在的上限",
            en="the limit, such as 20G or 500M; 0 keeps nothing; without it the present one is shown",
        ),
        Words(zh="[大小]", en="[SIZE]"),
    ),
    "to": ParameterWords(
        Words(zh="新知识库的文件夹；原来的不会改动", en="folder of the new library; the old one is not changed"),
        Words(zh="文件夹", en="DIR"),
    ),
    "file": ParameterWords(
        Words(zh="写入的文件；省略则写到标准输出", en="file to write; standard output without it"),
        Words(zh="[文件]", en="[FILE]"),
    ),
    "library": ParameterWords(Words(zh="知识库所在的文件夹", en="folder of the library"), Words(zh="文件夹", en="DIR")),
    "model": ParameterWords(
        Words(
            zh="模型的名称或路径；默认 extractive，只摘录原句",
            en="name or path of the model; extractive, the default, quotes only",
        ),
        Words(zh="名称|路径", en="NAME|PATH"),
    ),
    "window": ParameterWords(
        Words(zh="上下文窗口，单位词元，如 16384 或 16K", en="context window in tokens, such as 16384 or 16K"),
        Words(zh="词元数", en="N"),
    ),
    "strategy": ParameterWords(
        Words(
            zh="auto（按词元数选择）、stuff（一次放入窗口）或 map_reduce（分段再合并）",
            en="auto (by counting tokens), stuff (all in one prompt) or map_reduce (in parts, then merged)",
        ),
        Words(zh="策略", en="NAME"),
    ),
    "no_cache": ParameterWords(
        Words(
            zh="这一次不使用、也不保留磁盘上的提示词开头",
            en="neither use nor keep the beginnings of prompts on disk this time",
        )
    ),
    "json": ParameterWords(
        Words(
            zh="只在标准输出上打印一个 JSON 文档，出错时也是",
            en="print exactly one JSON document on standard output, errors included",
        )
    ),
    "install_completion": ParameterWords(
        Words(zh="为当前的 shell 装上 Tab 补全", en="install completion by Tab for this shell")
    ),
    "show_completion": ParameterWords(
        Words(zh="显示补全脚本，可自行安装", en="show the completion script, to install it by hand")
    ),
    "version": ParameterWords(Words(zh="显示版本", en="show the version")),
    "help": ParameterWords(Words(zh="显示这份说明", en="show this help")),
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
