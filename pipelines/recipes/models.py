"""Make the model that a recipe begins with, of one that is there.

    python pipelines/recipes/models.py --kind static --model all-MiniLM-L6-v2
    python pipelines/recipes/models.py --kind inference_free --model artifacts/recipes/masked-lm
    python pipelines/recipes/models.py --kind csr --model all-MiniLM-L6-v2

static: a vector a token, distilled of a transformer, no network left. inference_free: SPLADE whose
queries are weights of their own words, looked up. csr: a dense model whose vector becomes a few of
many latents.
"""

from typing import Literal

from raybert.encoders import DenseEncoder, SparseEncoder
from raybert.encoders.base import Encoder
from raybert.errors import SettingsError
from raybert.modules import (
    Router,
    SparseAutoEncoder,
    SparseStaticEmbedding,
    Transformer,
    locate_model,
)
from raybert.modules.static_distillation import distill_static
from raybert.settings import CommandSettings, run_job

LATENTS, ACTIVE = 4, 32
"""Of a csr model: latents for each dimension of the dense vector, and how many a text keeps."""


class RecipeModel(CommandSettings):
    """Make the model that a recipe begins with, of one that is there."""

    kind: Literal["static", "inference_free", "csr"]
    """What to make."""
    model: str
    """Model folder to make it of: dense; for inference_free a masked language model."""
    out: str | None = None
    """Folder to write to; default: where the recipe looks."""


def main(settings: RecipeModel) -> str:
    """Write the model; returns where it lies."""
    made = MAKERS[settings.kind](str(locate_model(settings.model)))
    return str(made.save_pretrained(settings.out or f"artifacts/recipes/{settings.kind}-start"))


def static(folder: str) -> Encoder:
    """Return the static form of a dense model."""
    first = DenseEncoder(folder).model[0]
    if not isinstance(first, Transformer):
        raise SettingsError(
            f"--model {folder}: begins with {type(first).__name__}, not transformer"
        )
    return DenseEncoder([distill_static(first)])


def inference_free(folder: str) -> Encoder:
    """Return SPLADE for documents, and for queries a weight a token."""
    documents = SparseEncoder(folder)
    queries = SparseStaticEmbedding(documents.tokenizer)
    return SparseEncoder([Router.for_query_document([queries], [*documents.model])])


def csr(folder: str) -> Encoder:
    """Return a dense model with a sparse autoencoder behind it."""
    dense = DenseEncoder(folder)
    width = dense.get_embedding_dimension()
    return SparseEncoder([*dense.model, SparseAutoEncoder(width, LATENTS * width, ACTIVE)])


MAKERS = {"static": static, "inference_free": inference_free, "csr": csr}


if __name__ == "__main__":
    run_job(RecipeModel, main)
