"""Generations of a named index: the next one is built and verified beside the one that is current.

The name is a folder; one small file in it, replaced whole, says which generation is current, so a
switch happens at one moment and can be taken back at another. A generation has one index a leg,
each pinned to the model that made it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raybert.artifacts import Folder, Manifest, read_manifest
from raybert.errors import ArtifactError, InputError
from raybert.index.build import build_index
from raybert.index.live import create_live
from raybert.index.live_state import STATE, read_state
from raybert.index.locking import held
from raybert.settings import Settings

GENERATIONS = "generations.json"
_WAIT_S = 30.0


class LegRecord(Settings):
    """One index of a generation, as it was when the generation was added."""

    uri: str
    """Where it lies; relative to the name's folder, or absolute."""
    fingerprint: str
    """The index's own; the identity of a live one."""
    model: str
    """Fingerprint of the model that made its vectors."""
    rows: int
    """Documents, when it was added."""


class GenerationRecord(Settings):
    """One generation."""

    name: str
    """Its name, counted up: g1, g2, …"""
    legs: dict[str, LegRecord]
    """Its indexes by leg."""
    created: str
    """When it was added, in UTC."""
    verified: dict[str, Any] = Field(default_factory=dict)
    """What it was like beside the generation that was current then."""


class Canary(Settings):
    """A generation that is tried beside the current one, on real queries."""

    name: str
    """The generation."""
    share: float = Field(gt=0, le=1)
    """Share of the queries it is tried on; one query is always on the same side."""
    shadow: bool = False
    """Only compare: the current generation answers, the other one is asked behind its back."""


class History(Settings):
    """What the file says."""

    current: str | None = None
    """The generation that is served."""
    earlier: tuple[str, ...] = ()
    """What was current before, the last one last."""
    canary: Canary | None = None
    """What is tried beside it, if anything."""
    generations: tuple[GenerationRecord, ...] = ()
    """All there are, oldest first."""


class Generations:
    """The generations of one index name.

    >>> faq = Generations("indexes/faq")                      # doctest: +SKIP
    >>> faq.build_next("runs/faq-embeddings-2", kind="hnsw")  # doctest: +SKIP
    >>> faq.switch("g2"); faq.roll_back()                     # doctest: +SKIP

    Args:
        uri: the name's folder.
    """

    def __init__(self, uri: str) -> None:
        self.folder = Folder(uri)

    @property
    def history(self) -> History:
        """What there is.

        Raises:
            ArtifactError: the file is damaged.
        """
        if not self.folder.exists(GENERATIONS):
            return History()
        try:
            return History.model_validate_json(self.folder.read_bytes(GENERATIONS))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ArtifactError(f"{self.folder.path(GENERATIONS)}: damaged: {reason}") from None

    @property
    def current(self) -> GenerationRecord:
        """The generation that is served.

        Raises:
            ArtifactError: none is.
        """
        history = self.history
        if history.current is None:
            raise ArtifactError(f"{self.folder}: no generation is current; switch to one")
        return _named(self.folder, history, history.current)

    def named(self, name: str) -> GenerationRecord:
        """Return the generation called `name`.

        Raises:
            InputError: there is none; the message lists those there are.
        """
        return _named(self.folder, self.history, name)

    def legs(self, generation: GenerationRecord) -> dict[str, str]:
        """Return where the indexes of a generation lie, by leg.

        Raises:
            ArtifactError: what lies there is not what was added: another index, another model.
        """
        places = {leg: self._place(record.uri) for leg, record in generation.legs.items()}
        for leg, record in generation.legs.items():
            found = _record(record.uri, places[leg])
            if (found.fingerprint, found.model) != (record.fingerprint, record.model):
                raise ArtifactError(
                    f"{places[leg]}: is not the index that generation {generation.name!r} of "
                    f"{self.folder} was made with: {found.fingerprint} of model {found.model}; "
                    f"then {record.fingerprint} of {record.model}"
                )
        return places

    def add(self, legs: Mapping[str, str]) -> GenerationRecord:
        """Add finished indexes, or live ones, as the next generation; it is not current yet.

        Args:
            legs: where each lies, by leg; relative to the name's folder, or absolute.

        Raises:
            ArtifactError: an index is missing or unfinished.
            InputError: there is no leg.
        """
        if not legs:
            raise InputError(f"{self.folder}: a generation needs at least one leg")
        with self._changing() as history:
            generation = GenerationRecord(
                name=self._next(history),
                legs={leg: _record(uri, self._place(uri)) for leg, uri in legs.items()},
                created=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z",
            )
            self._write(history, generations=(*history.generations, generation))
        return generation

    def build_next(self, embeddings: str, *, leg: str = "dense", **build: Any) -> GenerationRecord:
        """Build an index inside the name's folder and add it as the next generation.

        Args:
            embeddings: folder of the embeddings artifact.
            leg: what the leg is called.
            build: as for `build_index`.

        Raises:
            ArtifactError, InputError: as for building.
        """
        name = self._next(self.history)
        build_index(embeddings, self.folder.path(f"{name}/{leg}"), **build)
        return self.add({leg: f"{name}/{leg}"})

    def begin_live(self, *, leg: str = "dense", **live: Any) -> GenerationRecord:
        """Make an empty live index inside the name's folder and add it as the next generation.

        Args:
            leg: what the leg is called.
            live: as for `create_live`.

        Raises:
            ArtifactError, InputError: as for creating.
        """
        name = self._next(self.history)
        create_live(self.folder.path(f"{name}/{leg}"), **live)
        return self.add({leg: f"{name}/{leg}"})

    def note(self, name: str, verified: Mapping[str, Any]) -> GenerationRecord:
        """Keep what a comparison with the current generation gave."""
        with self._changing() as history:
            noted = _named(self.folder, history, name).model_copy(
                update={"verified": dict(verified)}
            )
            kept = tuple(noted if each.name == name else each for each in history.generations)
            self._write(history, generations=kept)
        return noted

    def switch(self, name: str) -> GenerationRecord:
        """Make a generation the current one, at one moment.

        Raises:
            InputError: there is none of that name.
            ArtifactError: its indexes are not what they were when it was added.
        """
        with self._changing() as history:
            generation = _named(self.folder, history, name)
            self.legs(generation)
            if history.current != name:
                earlier = (*history.earlier, *([history.current] if history.current else []))
                self._write(history, current=name, earlier=earlier, canary=None)
        return generation

    def roll_back(self) -> GenerationRecord:
        """Make the generation current that was so before.

        Raises:
            InputError: there was none before.
            ArtifactError: its indexes are not what they were.
        """
        with self._changing() as history:
            if not history.earlier:
                raise InputError(f"{self.folder}: no earlier generation to go back to")
            generation = _named(self.folder, history, history.earlier[-1])
            self.legs(generation)
            earlier = history.earlier[:-1]
            self._write(history, current=generation.name, earlier=earlier, canary=None)
        return generation

    def try_out(self, name: str, share: float, *, shadow: bool = False) -> Canary:
        """Have servers try a generation on a share of the queries; switching ends it.

        Args:
            name: the generation.
            share: of the queries, above 0 and up to 1.
            shadow: compare only; the current generation gives all answers.

        Raises:
            InputError: no such generation, or a share out of range.
            ArtifactError: its indexes are not what they were.
        """
        if not 0 < share <= 1:
            raise InputError(f"share {share}: above 0 and up to 1 is allowed")
        with self._changing() as history:
            self.legs(_named(self.folder, history, name))
            canary = Canary(name=name, share=share, shadow=shadow)
            self._write(history, canary=canary)
        return canary

    def end_trial(self) -> None:
        """Have servers try nothing beside the current generation."""
        with self._changing() as history:
            self._write(history, canary=None)

    def _next(self, history: History) -> str:
        return f"g{len(history.generations) + 1}"

    def _place(self, uri: str) -> str:
        absolute = "://" in uri or Path(uri).is_absolute()
        return uri if absolute else self.folder.path(uri)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[History]:
        """Hold the name's lock, where its folder is local, and yield what the file says then."""
        with contextlib.ExitStack() as stack:
            if self.folder.local is not None:
                self.folder.local.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(self.folder.local / "generations.lock", _WAIT_S))
            yield self.history

    def _write(self, history: History, **update: Any) -> None:
        changed = history.model_copy(update=update)
        self.folder.write_bytes(GENERATIONS, changed.model_dump_json(indent=2).encode())


def has_generations(uri: str) -> bool:
    """Say whether the folder of an index name with generations lies at `uri`."""
    return Folder(uri).exists(GENERATIONS)


def _named(folder: Folder, history: History, name: str) -> GenerationRecord:
    for generation in history.generations:
        if generation.name == name:
            return generation
    there = ", ".join(each.name for each in history.generations) or "none"
    raise InputError(f"{folder}: no generation {name!r}; there are: {there}")


def _record(uri: str, place: str) -> LegRecord:
    folder = Folder(place)
    if folder.exists(STATE):
        state = read_state(folder)
        return LegRecord(uri=uri, fingerprint=state.identity, model=state.model.fingerprint, rows=0)
    manifest = read_manifest(folder, kind="index")
    return LegRecord(
        uri=uri, fingerprint=manifest.fingerprint, model=_model(manifest), rows=manifest.rows
    )


def _model(manifest: Manifest) -> str:
    """Return the fingerprint of the model; an index of words has none."""
    return next((each.fingerprint for each in manifest.inputs if each.kind == "model"), "")
