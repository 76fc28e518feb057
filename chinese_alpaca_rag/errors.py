"""Every error that the kit raises on purpose.

::

    AlpacaRagError                    exit code 1
    ├── WrongUsageError               exit code 2: the call itself cannot be meant
    │   ├── UnknownModelError             no such model in the catalogue, and no such path
    │   ├── WindowUnreachableError        the window is beyond what the model reaches, or not a window
    │   ├── NotAChatModelError            a base model was asked to follow an instruction
    │   ├── EmptyQuestionError            nothing was asked
    │   └── QuestionTooLongError          the question alone does not fit the window
    ├── MissingExtraError             an optional package is not installed
    ├── ModelError                    a model's files or its evaluation
    │   ├── ModelNotFoundError            a known model, but its weights are not on this machine
    │   ├── StructuredOutputError         an answer that has not the form it was asked in
    │   ├── NotEnoughMemoryError          weights and window together need more memory than there is
    │   ├── CheckpointError               weights that are damaged, foreign or do not match the model
    │   └── EndpointError                 a model server: down, refusing, or not serving what was asked for
    ├── LibraryError                  the knowledge base
    │   ├── LibraryNotFoundError          nothing is there
    │   ├── LibraryFormatError            something is there that this version cannot read
    │   ├── LibraryBusyError              another process is writing
    │   └── EmptyLibraryError             no document in it yet
    ├── VectorStoreError              vectors on disk
    │   ├── VectorStoreNotFoundError      nothing is there
    │   ├── VectorStoreDamagedError       something is there that cannot be trusted or read
    │   ├── VectorStoreChangedError       another process wrote it meanwhile
    │   └── EmbeddingChangedError         another model made the vectors that are there
    ├── NoDocumentsError              the paths given hold nothing that can be read
    └── DocumentRefusedError          one file, with the reason

An error says what happened (with the numbers or names that clash) and, in ``hint``, what to do next.
Both are pairs of languages; ``str(error)`` speaks the user's.
"""

from __future__ import annotations

from chinese_alpaca_rag.language import Language, Words


class AlpacaRagError(Exception):
    """What went wrong (``message``) and what to do about it (``hint``)."""

    exit_code = 1

    def __init__(self, message: Words, *, hint: Words) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message, hint)

    def text(self, language: Language | None = None) -> str:
        """Message and hint on two lines."""
        return f"{self.message.text(language)}\n{self.hint.text(language)}"

    def __str__(self) -> str:
        return self.text()

    def __reduce__(self) -> tuple[object, ...]:
        # The default would rebuild with both as positional arguments; errors cross process borders.
        return _rebuild, (type(self), self.message, self.hint)


def _rebuild(kind: type[AlpacaRagError], message: Words, hint: Words) -> AlpacaRagError:
    return kind(message, hint=hint)


class WrongUsageError(AlpacaRagError):
    """The call cannot be meant as it stands."""

    exit_code = 2


class UnknownModelError(WrongUsageError):
    """No model of that name is in the catalogue and no file or folder has that path."""


class WindowUnreachableError(WrongUsageError):
    """The wanted window is beyond what the model reaches with any RoPE scaling, or is no window."""


class NotAChatModelError(WrongUsageError):
    """A base model, which continues text and follows no instruction, was asked a question."""


class EmptyQuestionError(WrongUsageError):
    """The question holds no word."""


class QuestionTooLongError(WrongUsageError):
    """The question alone, without any source, does not fit the window."""


class MissingExtraError(AlpacaRagError):
    """An optional dependency is needed; the hint is the pip command that installs it."""

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        """The error for an import of ``package`` that failed and that ``extra`` would install."""
        command = f"pip install 'chinese-alpaca-rag[{extra}]'"
        return cls(
            Words(zh=f"这一步需要 {package}，但没有安装。", en=f"This step needs {package}, which is not installed."),
            hint=Words(zh=f"请运行：{command}", en=f"Run: {command}"),
        )


class ModelError(AlpacaRagError):
    """A model's files or its evaluation."""


class ModelNotFoundError(ModelError):
    """The model is known, but its weights are not on this machine."""


class CheckpointError(ModelError):
    """A checkpoint is damaged, of an unsafe format, or does not match the model it is taken for."""


class NotEnoughMemoryError(ModelError):
    """A model at a window would need more memory than the machine, or its GPU, has left."""


class EndpointError(ModelError):
    """A model server cannot be reached, refuses, answers nonsense, or serves another model or window."""


class StructuredOutputError(ModelError):
    """An answer has not the form that was asked for; ``partial`` is its text as far as it came."""

    def __init__(self, message: Words, *, hint: Words, partial: str = "") -> None:
        super().__init__(message, hint=hint)
        self.partial = partial

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"partial": self.partial})


class LibraryError(AlpacaRagError):
    """The knowledge base on disk."""


class LibraryNotFoundError(LibraryError):
    """No library stands at the path."""


class LibraryFormatError(LibraryError):
    """What stands at the path is no library of a format that this version reads."""


class LibraryBusyError(LibraryError):
    """Another process holds the library's one writing place."""


class EmptyLibraryError(LibraryError):
    """The library holds no passage yet."""


class VectorStoreError(AlpacaRagError):
    """Vectors on disk cannot be used."""


class VectorStoreNotFoundError(VectorStoreError):
    """There is no vector store there."""


class VectorStoreDamagedError(VectorStoreError):
    """What is there is damaged, or of another format."""


class VectorStoreChangedError(VectorStoreError):
    """Another process saved the store since it was read."""


class EmbeddingChangedError(VectorStoreError):
    """The embedding model is not the one that made the stored vectors."""


class NoDocumentsError(AlpacaRagError):
    """The paths given hold no document of a known format."""


class DocumentRefusedError(AlpacaRagError):
    """One file cannot be read; ``message`` is the reason that reports show."""
