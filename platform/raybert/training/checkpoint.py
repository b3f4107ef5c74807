"""Checkpoints: all that a training needs to go on as if it had never stopped.

One file a checkpoint, there whole or not at all; read with `weights_only`, so nothing is run.
"""

from __future__ import annotations

import io
import pickle
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from raybert.artifacts import Folder
from raybert.errors import ArtifactError

State = dict[str, Any]
"""Tensors, numbers, strings, and dicts, lists and tuples of them."""

_NAME = re.compile(r"step-(\d+)\.pt")


class Checkpoints:
    """The checkpoints of one training, in a folder of their own.

    Args:
        folder: where they lie; shared storage, when training runs on several nodes.
        signature: what was trained how; a checkpoint of another training is refused.
        keep: latest checkpoints to keep, besides the best.
    """

    def __init__(self, folder: Folder, signature: str, keep: int = 2) -> None:
        self.folder, self.signature, self.keep = folder, signature, keep

    @property
    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending."""
        found = [_NAME.fullmatch(name) for name in self.folder.names()]
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> str:
        """Return where a step's checkpoint lies."""
        return self.folder.path(_file(step))

    def latest(self) -> State | None:
        """Return the state of the last checkpoint, None where there is none.

        Raises:
            ArtifactError: it is damaged, or of another training.
        """
        steps = self.steps
        return self.load(steps[-1]) if steps else None

    def load(self, step: int) -> State:
        """Return the state of a step, on the CPU.

        Raises:
            ArtifactError: it is not there, damaged, or of another training.
        """
        data = io.BytesIO(self.folder.read_bytes(_file(step)))
        try:
            state: State = torch.load(data, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0][:120]
            raise ArtifactError(f"{self.path(step)}: damaged checkpoint: {reason}") from None
        if state.get("signature") != self.signature:
            raise ArtifactError(
                f"{self.folder}: holds checkpoints of a training with another model, data or "
                f"settings; remove the folder, or choose another --out"
            )
        return state

    def save(self, step: int, state: Mapping[str, Any], best: int | None = None) -> str:
        """Write a checkpoint, then remove old ones; returns where it lies.

        Args:
            step: optimizer steps done.
            state: what to keep.
            best: step of the best model so far, whose checkpoint stays.

        Raises:
            ArtifactError: it cannot be written, such as on a full disk.
        """
        with self.folder.writing(_file(step)) as file:
            try:
                torch.save({**state, "signature": self.signature}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch's words hide a full disk
                    raise error.__context__ from None
                raise
        for old in self.steps[: -self.keep]:
            if old != best:
                self.folder.remove(_file(old))
        return self.path(step)

    def remove(self) -> None:
        """Remove them all: the model is saved."""
        self.folder.remove()


def random_state() -> State:
    """Return the state of this process's sources of chance."""
    version, numbers, gauss = random.getstate()
    state: State = {
        "torch": torch.get_rng_state(),
        "python": (version, torch.tensor(numbers, dtype=torch.int64), gauss),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random(states: Sequence[State], rank: int, seed: int) -> None:
    """Go on with a rank's sources of chance; a rank that was not there then gets new ones."""
    if rank >= len(states):
        seed_all(seed + rank)
        return
    state = states[rank]
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_all(seed: int) -> None:
    """Seed this process's sources of chance."""
    torch.manual_seed(seed)
    random.seed(seed)


def _file(step: int) -> str:
    return f"step-{step:09d}.pt"
