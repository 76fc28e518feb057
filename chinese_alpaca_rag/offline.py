"""Keeps dependencies from phoning home. Has to run before any of them is imported.

Some packages report their use, look for newer versions or send traces to a service unless an
environment variable says otherwise, and most of them read it once, when they are imported.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

#: What each variable is for: LangChain's tracer, Hugging Face's hub and tokenizers, unstructured, chromadb.
QUIET = {
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "SCARF_NO_ANALYTICS": "1",
    "UNSTRUCTURED_DISABLE_NOTICE": "1",
    "ANONYMIZED_TELEMETRY": "False",
    # Not a connection but a lock: tokenizers' threads and a forked child do not go together.
    "TOKENIZERS_PARALLELISM": "false",
}

#: Every name under which langsmith looks for the switch that sends prompts and answers away, in its order.
TRACING = ("LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING", "LANGCHAIN_TRACING")

ALLOW_TRACING = "ALPACA_RAG_ALLOW_TRACING"


def stay_offline(*, tracing: bool | None = None, environment: MutableMapping[str, str] | None = None) -> None:
    """Set every variable of ``QUIET`` that is not set yet, in the process's own environment by default.

    A choice that the user made stays, with one exception: ``tracing=False`` switches LangChain's tracer
    off even where the environment has it on, because it would send documents and answers to a service.
    """
    variables = os.environ if environment is None else environment
    if tracing is False:
        for name in TRACING:
            if name in variables:
                variables[name] = "false"
    for name, value in QUIET.items():
        variables.setdefault(name, value)


def tracing_allowed(environment: MutableMapping[str, str] | None = None) -> bool:
    """Whether the user said that traces may leave the machine: ``ALPACA_RAG_ALLOW_TRACING=1``."""
    variables = os.environ if environment is None else environment
    return variables.get(ALLOW_TRACING, "").strip().lower() in {"1", "true", "yes", "on"}
