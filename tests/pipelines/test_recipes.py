"""Every recipe is accepted by its job; two are cooked, on a handful of rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from raybert.losses import choose_loss
from raybert.settings import read_yaml
from raybert.training import TrainingSettings

Load = Callable[[str], ModuleType]
RECIPES = sorted((Path(__file__).parents[2] / "pipelines" / "recipes").glob("*.yaml"))
COMMAND = re.compile(r"# python pipelines/(\w+)\.py --config pipelines/recipes/(\w+\.yaml)$")
FAMILIES = {"train_cross": "cross", "train_sparse": "sparse"}


def settings_of(recipe: Path, load_job: Load, **more: Any) -> tuple[ModuleType, TrainingSettings]:
    """Return the job that the first line names, and its settings."""
    first = COMMAND.match(recipe.read_text(encoding="utf-8").splitlines()[0])
    assert first is not None, "the first line is the command"
    assert first[2] == recipe.name
    job = load_job(first[1])
    kinds = [each for each in vars(job).values() if isinstance(each, type)]
    (kind,) = (
        each
        for each in kinds
        if issubclass(each, TrainingSettings) and each is not TrainingSettings
    )
    return job, kind(**{**read_yaml(str(recipe)), "tracking_uri": "none", **more})


@pytest.fixture(scope="module")
def data(load_job: Load, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes' rows of the bundled manuals."""
    spec_folder = tmp_path_factory.mktemp("recipes")
    job = load_job("recipes/data")
    documents = str(root / "data" / "demo" / "docs.parquet")
    return Path(job.main(job.RecipeData(documents=documents, out=str(spec_folder))))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_accepted_by_its_job(recipe: Path, load_job: Load, root: Path) -> None:
    job, settings = settings_of(recipe, load_job)
    assert settings.out == f"artifacts/recipes/{recipe.stem}"
    family = FAMILIES.get(job.__name__.removeprefix("pipelines_"), "dense")
    family = getattr(settings, "family", family)
    if settings.loss.name is not None:
        choose_loss(settings.loss.name, family, **settings.loss.settings)
    told = (root / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert f"`{recipe.name}`" in told, "docs/recipes.md tells of every recipe"


def test_labels_say_where_a_text_stands(data: Path) -> None:
    graded = pq.read_table(data / "graded_train.parquet").to_pylist()
    assert {row["score"] for row in graded} == {0.0, 0.5, 1.0}
    classes = pq.read_table(data / "classes_train.parquet")
    assert set(classes["label"].to_pylist()) == {0, 1, 2}
    lists = pq.read_table(data / "lists_train.parquet").to_pylist()
    assert all(len(row["documents"]) == len(row["labels"]) for row in lists)
    train, test = (pq.read_table(data / f"texts_{part}.parquet") for part in ("train", "test"))
    assert 0.1 < len(test) / (len(train) + len(test)) < 0.3
    answers = (data / "qrels.tsv").read_text().splitlines()
    assert len(answers) == len(test)


@pytest.mark.parametrize("name", ["mixture", "cross_lambda"])
def test_a_recipe_is_cooked(
    name: str, load_job: Load, data: Path, minilm: Path, tmp_path: Path
) -> None:
    recipe = next(each for each in RECIPES if each.stem == name)
    text = recipe.read_text(encoding="utf-8").replace("artifacts/recipes/data", str(data))
    told = yaml.safe_load(text)
    told["data"] |= {"rows": 16}
    for part in told["data"].get("also", {}).values():
        part["rows"] = 16
    job, settings = settings_of(
        recipe,
        load_job,
        data=told["data"],
        model=str(minilm),
        max_seq_length=16,
        batch={"size": 8, "sampler": "batch_sampler"},
        schedule={"max_steps": 4},
        evaluation={},
        scale={"device": "cpu"},
        out=str(tmp_path / "model"),
    )
    assert (Path(job.main(settings)) / "model.safetensors").exists()
