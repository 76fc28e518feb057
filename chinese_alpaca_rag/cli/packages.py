"""The packages that the kit and its extras are made of, and which of them are installed."""

from __future__ import annotations

from importlib import metadata

#: What pyproject.toml names for the package itself and for each extra.
REQUIRED = (
    "charset-normalizer",
    "httpx",
    "langchain-core",
    "langchain-text-splitters",
    "lxml",
    "numpy",
    "psutil",
    "pydantic",
    "pypdfium2",
    "python-oxmsg",
    "rich",
    "selectolax",
    "sentencepiece",
    "typer",
    "watchfiles",
    "xxhash",
)
EXTRAS: dict[str, tuple[str, ...]] = {
    "office": ("openpyxl", "msoffcrypto-tool"),
    "unstructured": ("unstructured",),
    "ocr": ("rapidocr", "onnxruntime"),
    "endpoint": ("llguidance", "jsonschema", "tokenizers"),
    "gguf": ("llama-cpp-python",),
    "hf": ("transformers", "torch", "safetensors", "accelerate", "peft"),
    "cuda": ("bitsandbytes",),
    "dense": (
        "sentence-transformers",
        "faiss-cpu",
        "chromadb",
        "langchain-chroma",
        "torch",
        "tokenizers",
        "onnx",
        "onnxruntime",
    ),
    "postgres": ("langchain-postgres",),
    "server": ("starlette", "uvicorn"),
}


def installed(packages: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The packages that are installed, each with its version, and those that are not."""
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    return found, missing


def install(extra: str) -> str:
    """The command that installs ``extra``."""
    return f"pip install 'chinese-alpaca-rag[{extra}]'"
