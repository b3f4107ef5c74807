"""Small random models, built here and saved as Sentence Transformers folders would be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "what is ray",
    "Ray runs Python on many machines, and keeps what they make in one store.",
    "a",
    "Sentence embeddings put texts of like meaning near each other; a long text is cut at the "
    "model's limit, a short one is padded, and neither may change what the others become. " * 2,
    "ünïcode: naïve café, 漢字 and emoji 🚀",
    "",
    "two words",
    "The quick brown fox jumps over the lazy dog.",
]

Save = Callable[[str], Path]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


def tokenizer(folder: Path, cls: str, sep: str, pad: str, unk: str, first_pad: bool) -> None:
    """Train a small word-piece tokenizer and save it."""
    specials = [pad, unk, cls, sep, "[MASK]"] if first_pad else [cls, pad, sep, unk, "[MASK]"]
    built = Tokenizer(models.WordPiece(unk_token=unk))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials)
    )
    built.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(name, built.token_to_id(name)) for name in (cls, sep)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=built,
        cls_token=cls,
        sep_token=sep,
        pad_token=pad,
        unk_token=unk,
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(str(folder))


SIZE = {
    "vocab_size": 320,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 80,
}
SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {
        "vocab_size": 320,
        "dim": 48,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 96,
        "max_position_embeddings": 80,
    },
    "llama": {**SIZE, "num_key_value_heads": 2},
    "modernbert": {**SIZE, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    "t5": {
        "vocab_size": 320,
        "d_model": 48,
        "d_kv": 12,
        "d_ff": 96,
        "num_layers": 2,
        "num_heads": 4,
    },
}
CONFIGS: dict[str, Callable[..., Any]] = {
    "bert": transformers.BertConfig,
    "distilbert": transformers.DistilBertConfig,
    "llama": transformers.LlamaConfig,
    "modernbert": transformers.ModernBertConfig,
    "mpnet": transformers.MPNetConfig,
    "roberta": transformers.RobertaConfig,
    "t5": transformers.T5Config,
    "xlm-roberta": transformers.XLMRobertaConfig,
}
HEADS = {"t5": "EncoderModel"}


def build(folder: Path, kind: str, head: str | None = None, **settings: Any) -> Path:
    """Save a small random model of a kind with a tokenizer of its own."""
    roberta_like = kind in {"roberta", "xlm-roberta", "mpnet"}
    size = SIZES.get(kind, SIZE)
    config = CONFIGS[kind](**size, pad_token_id=1 if roberta_like else 0, **settings)
    name = type(config).__name__.removesuffix("Config") + (head or HEADS.get(kind, "Model"))
    torch.manual_seed(7)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(str(folder))
    if roberta_like:
        tokenizer(folder, "<s>", "</s>", "<pad>", "<unk>", first_pad=False)
    else:
        tokenizer(folder, "[CLS]", "[SEP]", "[PAD]", "[UNK]", first_pad=True)
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="session")
def write_json() -> Callable[[Path, Any], None]:
    return write


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Path]:
    """Build a transformers folder: `build_model(folder, kind, head, **config)`."""
    return build


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A plain transformers folder of a kind, built once a session; not to be changed."""
    built: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in built:
            built[kind] = build(tmp_path_factory.mktemp(kind), kind)
        return built[kind]

    return folder


@pytest.fixture
def answering(tmp_path: Path) -> Path:
    """A causal language model whose tokenizer has the words yes and no."""
    folder = build(tmp_path / "answering", "llama", "ForCausalLM")
    tokens = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    vocabulary |= {"yes": len(vocabulary), "no": len(vocabulary) + 1}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    return folder
