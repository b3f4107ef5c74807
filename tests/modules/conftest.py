"""A tiny BERT in a folder, to be damaged by tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A plain transformers folder with weights and a tokenizer."""
    config = transformers.BertConfig(
        vocab_size=12,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    folder = tmp_path / "tiny"
    transformers.BertModel(config).save_pretrained(str(folder))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefg"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(str(folder))
    return folder
