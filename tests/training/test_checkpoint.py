from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from raybert.artifacts import Folder
from raybert.errors import ArtifactError
from raybert.training.checkpoint import Checkpoints, random_state, restore_random, seed_all


def test_the_latest_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Folder(tmp_path / "c"), "same", keep=2)
    assert checkpoints.latest() is None
    for step in (1, 2, 3, 4):
        checkpoints.save(step, {"step": step, "weight": torch.ones(2) * step}, best=2)
    assert checkpoints.steps == [2, 3, 4]
    state = checkpoints.latest()
    assert state is not None
    assert state["step"] == 4
    assert checkpoints.load(2)["weight"].tolist() == [2, 2]
    checkpoints.remove()
    assert checkpoints.steps == []


def test_another_training_and_damage_are_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Checkpoints(folder, "one").save(1, {"x": 1})
    with pytest.raises(ArtifactError, match="another model, data or settings"):
        Checkpoints(folder, "two").latest()
    whole = folder.read_bytes("step-000000001.pt")
    folder.write_bytes("step-000000001.pt", whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="damaged checkpoint"):
        Checkpoints(folder, "one").latest()


def test_a_full_disk_leaves_the_last_checkpoint(small_disk: Path) -> None:
    checkpoints = Checkpoints(Folder(small_disk), "same")
    checkpoints.save(1, {"weight": torch.ones(10)})
    with pytest.raises(ArtifactError, match=r"2\.pt: cannot be written: No space left on device"):
        checkpoints.save(2, {"weight": torch.ones(100_000)})
    assert checkpoints.folder.names() == ["step-000000001.pt"]
    assert checkpoints.load(1)["weight"].tolist() == [1] * 10


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"signature": "one", "path": Path("x")}, tmp_path / "step-000000001.pt")
    with pytest.raises(ArtifactError, match="damaged checkpoint"):
        Checkpoints(Folder(tmp_path), "one").latest()


def test_chance_goes_on_where_it_was() -> None:
    seed_all(3)
    torch.rand(5), random.random()
    states = [random_state()]
    known = torch.rand(3).tolist(), random.random()
    seed_all(9)
    restore_random(states, 0, seed=1)
    assert (torch.rand(3).tolist(), random.random()) == known
    restore_random(states, 1, seed=1)
    other = torch.rand(3).tolist()
    seed_all(2)
    assert torch.rand(3).tolist() == other
