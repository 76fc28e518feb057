"""A sentence-transformers model of BERT's shape with random weights, as a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = (
    "年假有几天公司员工每享受十五日带薪合同签订出差住宿标准上限元报销申请人事部门审批流程加班费"
    "abcdefghijklmnopqrstuvwxyz0123456789，。？！、"
)


def write_embedder(
    folder: Path,
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    inner: int = 64,
    vocabulary: int = 0,
    most: int = 64,
    seed: int = 0,
    pooling: str = "cls",
    normalize: bool = True,
    characters: str = CHARACTERS,
) -> Path:
    """Write the model to ``folder``; ``vocabulary`` pieces (padded with unused ones), ``most`` tokens a text."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    pieces = [*SPECIAL, *dict.fromkeys(characters)]
    pieces += [f"[unused{number}]" for number in range(vocabulary - len(pieces))]
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=most, initializer_range=0.2 if hidden < 100 else 0.02,
    )  # fmt: skip
    inner_folder = folder.parent / f"{folder.name}-inner"
    BertModel(config).save_pretrained(inner_folder)
    tokenizer(pieces, most).save_pretrained(inner_folder)
    modules: list[Any] = [Transformer(str(inner_folder)), Pooling(hidden, pooling_mode=pooling)]
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def tokenizer(pieces: list[str], most: int) -> Any:
    """A WordPiece tokenizer in which every Chinese character is a piece."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import BertTokenizerFast

    made = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = BertNormalizer()
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return BertTokenizerFast(tokenizer_object=made, model_max_length=most)
