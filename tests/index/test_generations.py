from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raybert.artifacts import Input
from raybert.errors import ArtifactError, InputError
from raybert.index import build_index, open_index
from raybert.index.generations import GENERATIONS, Generations
from raybert.index.live import create_live

WriteEmbeddings = Callable[..., str]


@pytest.fixture
def faq(write_embeddings: WriteEmbeddings, tmp_path: Path) -> Generations:
    """Two generations of one corpus, by models m1 and m2; the first is current."""
    generations = Generations(str(tmp_path / "faq"))
    for model in ("m1", "m2"):
        vectors = np.random.default_rng(int(model[1])).standard_normal((20, 4))
        embeddings = write_embeddings(vectors, name=model, model=model)
        generations.build_next(embeddings, kind="flat")
    generations.switch("g1")
    return generations


def test_switch_and_back(faq: Generations) -> None:
    assert faq.current.name == "g1"
    faq.switch("g2")
    faq.switch("g2")
    assert faq.current.legs["dense"].model == "m2"
    assert open_index(faq.legs(faq.current)["dense"]).model_fingerprint == "m2"
    assert faq.roll_back().name == "g1"
    assert faq.current.name == "g1"
    with pytest.raises(InputError, match="no earlier generation"):
        faq.roll_back()


def test_generations_remember_what_they_are(faq: Generations) -> None:
    faq.note("g2", {"overlap": 0.5})
    again = Generations(faq.folder.uri).history
    assert [each.name for each in again.generations] == ["g1", "g2"]
    assert again.generations[1].verified == {"overlap": 0.5}
    assert again.generations[0].legs["dense"].rows == 20
    with pytest.raises(InputError, match=r"no generation 'g7'; there are: g1, g2"):
        faq.switch("g7")


def test_an_index_that_was_replaced_is_refused(
    faq: Generations, write_embeddings: WriteEmbeddings
) -> None:
    place = faq.folder.path("g2/dense")
    faq.folder.remove("g2/dense")
    with pytest.raises(ArtifactError, match="no such artifact"):
        faq.switch("g2")
    build_index(write_embeddings(np.ones((2, 4)), name="m3", model="m3"), place)
    with pytest.raises(ArtifactError, match="is not the index that generation 'g2'"):
        faq.switch("g2")
    assert faq.current.name == "g1"


def test_a_live_index_is_a_generation_too(tmp_path: Path) -> None:
    generations = Generations(str(tmp_path / "faq"))
    model = Input(kind="model", uri="models/m", fingerprint="m1")
    live = create_live(str(tmp_path / "faq" / "live"), model=model, dimension=4)
    made = generations.add({"dense": "live"})
    generations.switch(made.name)
    live.upsert(["a"], np.ones((1, 4)), model_fingerprint="m1")
    assert generations.legs(generations.current) == {"dense": live.folder.uri}


def test_faults_are_told(tmp_path: Path) -> None:
    generations = Generations(str(tmp_path / "faq"))
    with pytest.raises(ArtifactError, match="no generation is current"):
        _ = generations.current
    with pytest.raises(InputError, match="at least one leg"):
        generations.add({})
    with pytest.raises(ArtifactError, match="no such artifact"):
        generations.add({"dense": "nowhere"})
    (tmp_path / "faq" / GENERATIONS).write_text("{")
    with pytest.raises(ArtifactError, match=r"generations.json: damaged"):
        generations.switch("g1")
