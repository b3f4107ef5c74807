from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from raybert.encoders import open_tokenizing
from raybert.encoders.tokenizing import Tokenizing
from raybert.losses import (
    BinaryCrossEntropyLoss,
    LambdaLoss,
    Loss,
    MarginMSELoss,
    MultipleNegativesRankingLoss,
    reranking,
)
from raybert.records import TokenizedTexts
from raybert.training.collate import Batch, Collate
from raybert.training.data import TrainingData


@pytest.fixture(scope="module")
def tokenizing(minilm: Path) -> Tokenizing:
    return open_tokenizing(minilm, max_seq_length=16)


def batch(tokenizing: Tokenizing, loss: Loss, prompts: Any = None, **columns: Any) -> Batch:
    data = TrainingData(pa.table(columns))
    data.fit(loss)
    return Collate(data, tokenizing, loss, prompts)([1, 0])


def texts(tokenizing: Tokenizing, tokens: TokenizedTexts) -> list[str]:
    return [tokenizing.tokenization.tokenizer.decode(ids) for ids in tokens.input_ids]


def test_a_row_is_as_long_as_its_texts_are_read(tokenizing: Tokenizing) -> None:
    columns = {"q": ["one", "two words"], "p": [["red"], ["green", "blue"]], "label": [[1], [0, 1]]}
    collate = Collate(TrainingData(pa.table(columns)), tokenizing, LambdaLoss())
    assert collate.letters([1, 0]) == [18, 6]
    assert collate.letters([1, 0], at_most=4) == [12, 6]


def test_rows_of_pictures_alone_have_no_letters(tokenizing: Tokenizing) -> None:
    table = pa.table({"a": [b"1", b"2"], "b": [b"3", b"4"]})
    data = TrainingData(table, images=["a", "b"])
    assert Collate(data, tokenizing, MultipleNegativesRankingLoss()).letters([1, 0]) == [0, 0]


def test_columns_in_order_with_their_prompts_and_labels(tokenizing: Tokenizing) -> None:
    columns = {"q": ["one", "two"], "p": ["red", "green"], "n": ["dog", "cat"], "score": [0.5, 2]}
    found = batch(tokenizing, MarginMSELoss(), {"p": "a "}, **columns)
    assert found.rows == [1, 0]
    assert [texts(tokenizing, column) for column in found.columns] == [
        ["[CLS] two [SEP]", "[CLS] one [SEP]"],
        ["[CLS] a green [SEP]", "[CLS] a red [SEP]"],
        ["[CLS] cat [SEP]", "[CLS] dog [SEP]"],
    ]
    assert [column.prompt_length for column in found.columns] == [0, 2, 0]
    assert found.labels is not None
    assert found.labels.tolist() == [2, 0.5]


def test_a_model_of_pairs_reads_the_first_column_with_each_other(tokenizing: Tokenizing) -> None:
    found = batch(
        tokenizing, BinaryCrossEntropyLoss(), q=["one", "two"], p=["red", "green"], label=[1, 0]
    )
    assert [texts(tokenizing, column) for column in found.columns] == [
        ["[CLS] two [SEP] green [SEP]", "[CLS] one [SEP] red [SEP]"]
    ]
    assert found.columns[0].token_type_ids is not None


def test_lists_of_documents_lie_end_to_end(tokenizing: Tokenizing) -> None:
    found = batch(
        tokenizing,
        LambdaLoss(),
        q=["one", "two"],
        docs=[["red"], ["green", "blue"]],
        labels=[[1.0], [0.0, 1.0]],
    )
    assert [text.split(" [SEP]")[0][6:] for text in texts(tokenizing, found.columns[0])] == [
        "two",
        "two",
        "one",
    ]
    assert found.labels is not None
    assert torch.equal(found.labels.isnan(), torch.tensor([[False, False], [False, True]]))


def test_in_batch_negatives_of_pairs_are_other_rows_documents(tokenizing: Tokenizing) -> None:
    loss = reranking.MultipleNegativesRankingLoss(num_negatives=None)
    found = batch(tokenizing, loss, q=["one", "two"], p=["red", "green"])
    assert [texts(tokenizing, column) for column in found.columns] == [
        ["[CLS] two [SEP] green [SEP]", "[CLS] one [SEP] red [SEP]"],
        ["[CLS] two [SEP] red [SEP]", "[CLS] one [SEP] green [SEP]"],
    ]


def test_without_a_label(tokenizing: Tokenizing) -> None:
    found = batch(tokenizing, MultipleNegativesRankingLoss(), q=["one", "two"], p=["a", "b"])
    assert found.labels is None
