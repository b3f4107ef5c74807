from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from raybert import SparseEncoder
from raybert.corpus import Encoding
from raybert.corpus.columns import open_columns, vector_table
from raybert.errors import InputError, ModelError
from raybert.modules import Tokenization
from raybert.vectors.quantization import Ranges

TEXTS = ["what is ray", "", "embeddings " * 9]


@pytest.fixture(scope="module")
def splade(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random masked language model, which is a SPLADE model by its architecture."""
    folder = tmp_path_factory.mktemp("splade")
    tokenizer = Tokenization.open(minilm).tokenizer
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def test_dense_vectors_keep_their_numbers() -> None:
    vectors = np.array([[1, -2, 3], [np.nan, 0, 0], [4, 5, -6]], np.float32)
    stored = vector_table(vectors)["vector"]
    assert stored.to_pylist() == [[1, -2, 3], None, [4, 5, -6]]
    assert vector_table(vectors, "float16")["vector"].type == pa.list_(pa.float16(), 3)
    assert vector_table(vectors, "ubinary")["vector"].to_pylist() == [[160], None, [192]]


def test_bytes_are_cut_by_the_ranges_that_are_given() -> None:
    ranges = Ranges.from_lists([[1, 5, -60], [4, 20, -3]])
    vectors = np.array([[-1, 15, 1], [np.inf, 0, 0], [2.5, 12.5, -30]], np.float32)
    stored = vector_table(vectors, "int8", ranges)["vector"]
    assert stored.to_pylist() == [[-128, 42, 127], None, [-1, -1, 6]]
    assert vector_table(vectors, "uint8", ranges)["vector"].to_pylist()[0] == [0, 170, 255]
    with pytest.raises(InputError, match="a batch has none of its own"):
        vector_table(vectors, "int8")


def test_sparse_vectors_are_those_of_the_encoder(splade: Path) -> None:
    columns = open_columns(Encoding(str(splade), "f", device="cpu", max_active_dims=7))
    encoder = SparseEncoder(splade, device="cpu")
    table, usage = columns(encoder.pre(TEXTS))
    assert table.schema.types == [pa.list_(pa.int32()), pa.list_(pa.float32())]
    expected = encoder.encode(TEXTS, max_active_dims=7).to_dense().numpy()
    for row, (terms, weights) in enumerate(
        zip(table["terms"].to_pylist(), table["weights"].to_pylist(), strict=True)
    ):
        assert terms == sorted(terms)
        assert len(terms) <= 7
        np.testing.assert_allclose(expected[row][terms], weights, atol=1e-6)
        assert np.count_nonzero(expected[row]) == len(terms)
    assert usage.tokens > 0
    assert columns.details["sparse"] is True


def test_sparse_models_refuse_what_only_dense_vectors_have(splade: Path) -> None:
    with pytest.raises(ModelError, match="gives sparse vectors; --normalize"):
        open_columns(Encoding(str(splade), "f", normalize=True, device="cpu"))


def test_images_need_a_model_that_reads_them(splade: Path) -> None:
    with pytest.raises(ModelError, match="reads no images, which --image-column holds"):
        open_columns(Encoding(str(splade), "f", images=True, device="cpu"))
