"""The same jobs over pictures: encoded, searched by text and picture, told apart by labels, and
their duplicates found, by a small CLIP model whose weights are drawn here."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image

from raybert.artifacts import read_manifest
from raybert.corpus.joined import read_vectors
from raybert.encoders import DenseEncoder
from raybert.errors import InputError
from raybert.index.source import Embeddings

Load = Callable[[str], ModuleType]
pytestmark = pytest.mark.usefixtures("ray_session")
LABELS = ["a round face", "a red square", "green stripes"]


@pytest.fixture(scope="module")
def clip(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder of one layer a half."""
    folder = tmp_path_factory.mktemp("clip")
    layers = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}
    layers["num_attention_heads"] = 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(minilm))
    text = {**layers, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    text["eos_token_id"] = tokenizer.sep_token_id
    vision = {**layers, "image_size": 32, "patch_size": 8}
    torch.manual_seed(9)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).eval().save_pretrained(str(folder))
    square = {"height": 32, "width": 32}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(str(folder))
    return folder


def picture(seed: int, quality: int | None = None) -> bytes:
    """A picture of a few squares of colour; as PNG, or as JPEG of some quality."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours.repeat(12, axis=0).repeat(12, axis=1))
    file = io.BytesIO()
    image.save(file, "PNG") if quality is None else image.save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, three of which stand again as JPEG; each with a caption."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [picture(n) for n in range(20)] + [picture(n, 90) for n in (2, 7, 11)]
    names = [f"p{n:02d}" for n in range(20)] + ["again-2", "again-7", "again-11"]
    table = {"id": names, "picture": files, "name": [f"picture {name}" for name in names]}
    pq.write_table(pa.table(table), folder / "pictures.parquet")
    return folder / "pictures.parquet"


@pytest.fixture(scope="module")
def encoded(load_job: Load, clip: Path, pictures: Path) -> Path:
    job = load_job("encode_corpus")
    out = pictures.parent / "embeddings"
    job.main(
        job.EncodeCorpus(
            corpus=str(pictures),
            image_column="picture",
            text_column="name",
            model=str(clip),
            out=str(out),
            rows_per_shard=10,
            workers=1,
            device="cpu",
            tracking_uri="none",
        )
    )
    return out


def hits(run: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in pq.read_table(run / "ranking.parquet").to_pylist():
        found.setdefault(row["query_id"], []).append(row["id"])
    return found


def test_images_are_encoded_and_found_by_text_and_by_image(
    load_job: Load, clip: Path, pictures: Path, encoded: Path, tmp_path: Path, capsys: Any
) -> None:
    encoder = DenseEncoder(clip, device="cpu")
    files = pq.read_table(pictures)["picture"].to_pylist()
    vectors = read_vectors(Embeddings.open(str(encoded)))
    assert np.abs(vectors - encoder.encode_images(files)).max() < 1e-5
    assert len(read_manifest(str(encoded)).shards) == 3

    common: dict[str, Any] = {"tracking_uri": "none"}
    build, search = load_job("build_index"), load_job("search_corpus")
    index = tmp_path / "index"
    build.main(build.BuildIndex(embeddings=str(encoded), kind="flat", out=str(index), **common))
    asked = {"index": str(index), "top_k": 5, "device": "cpu", **common}
    by_image = search.SearchCorpus(
        queries=str(pictures), image_column="picture", out=str(tmp_path / "images"), **asked
    )
    search.main(by_image)
    found = hits(tmp_path / "images")
    assert all(found[name][0] == name for name in found)
    assert found["again-7"][1] == "p07"
    capsys.readouterr()
    search.main(by_image)
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(InputError, match="--rerank-model reads texts"):
        search.main(by_image.model_copy(update={"rerank_model": "x"}))

    texts = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"id": LABELS, "text": LABELS}), texts)
    search.main(search.SearchCorpus(queries=str(texts), out=str(tmp_path / "by-text"), **asked))
    names = pq.read_table(pictures)["id"].to_pylist()
    scores = encoder.similarity(encoder.encode_query(LABELS), vectors).numpy()
    for label, row in zip(LABELS, scores, strict=True):
        best = [names[at] for at in np.argsort(-row)[:5]]
        assert hits(tmp_path / "by-text")[label] == best


def test_labels_are_given_without_training(
    load_job: Load, clip: Path, pictures: Path, encoded: Path, tmp_path: Path
) -> None:
    """Labels are a corpus of texts; a picture's label is the nearest."""
    labels = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"id": LABELS, "text": LABELS}), labels)
    common: dict[str, Any] = {"tracking_uri": "none"}
    encode, build = load_job("encode_corpus"), load_job("build_index")
    search, run = load_job("search_corpus"), tmp_path / "run"
    given = {"model": str(clip), "workers": 1, "device": "cpu", **common}
    encode.main(encode.EncodeCorpus(corpus=str(labels), out=str(tmp_path / "e"), **given))
    build.main(
        build.BuildIndex(
            embeddings=str(tmp_path / "e"), kind="flat", out=str(tmp_path / "i"), **common
        )
    )
    asked = {"queries": str(pictures), "image_column": "picture", "top_k": 1, "device": "cpu"}
    search.main(search.SearchCorpus(index=str(tmp_path / "i"), out=str(run), **asked, **common))
    encoder = DenseEncoder(clip, device="cpu")
    scores = encoder.similarity(
        read_vectors(Embeddings.open(str(encoded))), encoder.encode_document(LABELS)
    )
    expected = [LABELS[at] for at in scores.argmax(dim=1).tolist()]
    assert [found[0] for found in hits(run).values()] == expected


def test_duplicate_images_are_found(load_job: Load, encoded: Path, tmp_path: Path) -> None:
    job = load_job("mine_paraphrases")
    vectors = read_vectors(Embeddings.open(str(encoded)))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    planted = [(20, 2), (21, 7), (22, 11)]
    least = float(min(cosines[pair] for pair in planted))
    job.main(
        job.MineParaphrases(
            corpus=str(encoded),
            threshold=least - 1e-4,
            keep="first",
            out=str(tmp_path / "out"),
            tracking_uri="none",
            workers=1,
        )
    )
    rows = pq.read_table(tmp_path / "out" / "shards" / "00000.parquet").to_pylist()
    pairs = {(row["anchor_id"], row["positive_id"]): row for row in rows}
    for again, first in ((2, "p02"), (7, "p07"), (11, "p11")):
        row = pairs[(first, f"again-{again}")]
        assert row["anchor"] == f"picture {first}", "captions stand for pictures"
    near = np.argwhere(np.triu(cosines > least - 1e-4, 1)).tolist()
    assert pairs.keys() == {(name(left), name(right)) for left, right in near}


def name(row: int) -> str:
    return f"p{row:02d}" if row < 20 else f"again-{(2, 7, 11)[row - 20]}"


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([picture(1), b"GIF but not"], "not an image"),
        ([picture(1), None], "null image"),
        (["there.png", "nowhere.png"], "image 'nowhere.png' cannot be read"),
        ([1, 2], "image is int, not bytes or a path"),
    ],
    ids=["bytes", "null", "path", "number"],
)
def test_bad_images_are_named_before_any_model_is_loaded(
    load_job: Load, clip: Path, tmp_path: Path, cells: list[Any], says: str
) -> None:
    (tmp_path / "there.png").write_bytes(picture(1))
    pq.write_table(pa.table({"id": ["a", "b"], "picture": cells}), tmp_path / "bad.parquet")
    job = load_job("encode_corpus")
    with pytest.raises(InputError, match=says):
        job.main(
            job.EncodeCorpus(
                corpus=str(tmp_path / "bad.parquet"),
                image_column="picture",
                model=str(clip),
                out=str(tmp_path / "out"),
                tracking_uri="none",
            )
        )
