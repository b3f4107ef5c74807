"""What all encoders share: a model opened for inference, run in batches of tokens."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Unpack

import torch
from torch import Tensor

from raybert.artifacts import fingerprint_folder
from raybert.devices import pick_device, pick_dtype
from raybert.encoders.batching import token_batches
from raybert.encoders.card import Facts, ModelCard, write_card
from raybert.encoders.fastest import check_backend, fastest_backend
from raybert.encoders.hub import PushOptions, push_folder
from raybert.encoders.lanes import lane_count, side_by_side
from raybert.encoders.opening import opened
from raybert.encoders.outputs import progress
from raybert.errors import ModelError
from raybert.modules import Checkpoint, Features, Module, ModuleSequence, Opening, Text
from raybert.modules.backends import AUTO, TORCH, TORCH_INT8
from raybert.modules.writing import replace_folder, write_modules, write_settings
from raybert.records import BatchUsage, TokenizedTexts

Result = TypeVar("Result")

LANE_TOKENS_PER_THREAD = 1024
"""Tokens of a batch for each of its threads: a larger one's activations leave the core's cache."""
LEAST_LANE_TOKENS = 64
"""Tokens of a batch that is worth a thread of its own."""
FILE_TOKENS_PER_THREAD = 512
"""The same for exported files, which have threads of their own."""
GPU_TOKENS_PER_BATCH = 65536
"""Tokens: enough to keep a GPU's matrix units busy."""


class Encoder:
    """A model with its tokenizing half, on one device, for inference.

    Args:
        path_or_modules: a model folder (or a hub's `owner/name`), or the modules themselves.
        device: "auto", "cpu", "cuda", "cuda:1" …
        dtype: "auto" (float32 on a CPU, bfloat16 or float16 on a GPU), or one of them.
        prompts: prompts by name; they win over the folder's.
        default_prompt_name: the prompt where none is asked for.
        trust_remote_code: run Python code that lies in the folder.
        allow_pickle: read pickled weights where there are no safetensors.
        num_labels: size of a new classification head; None takes the folder's own.
        backend: what runs the transformer: "torch", "torch:int8", "onnx", "openvino", a file of the
            last two as in "onnx:model_O3.onnx", or "auto": the fastest of torch and the files (in
            eight bits only where a file is).

    Attributes:
        model: the modules; differentiable, so training calls `model(features)` as it is.
        tokenizing: prompts and tokenization, usable without the model.
        folder: where the model was opened, None if it was built from modules.
        backend: what runs the transformer.

    Raises:
        ModelError: the folder cannot be read, or is of another kind.
    """

    capabilities: frozenset[str] = frozenset()
    model_type: ClassVar[str] = ""
    """What `config_sentence_transformers.json` calls this kind of model."""

    def __init__(
        self,
        path_or_modules: str | Path | Sequence[Module],
        *,
        device: str = "auto",
        dtype: str = "auto",
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        backend: str = TORCH,
        num_labels: int | None = None,
    ) -> None:
        if backend == AUTO and isinstance(path_or_modules, str | Path):
            again = partial(
                type(self), path_or_modules, device=device, dtype=dtype,
                trust_remote_code=trust_remote_code, allow_pickle=allow_pickle,
            )  # fmt: skip
            backend = fastest_backend(path_or_modules, lambda name: again(backend=name))
        self.backend = backend
        opening = Opening(
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            num_labels=num_labels,
            backend=backend,
        )
        found = opened(
            path_or_modules, opening, self.model_type, self.made, prompts, default_prompt_name
        )
        where = pick_device("cpu" if backend != TORCH and device == "auto" else device)
        self.model: ModuleSequence = found.model.to(
            device=where, dtype=pick_dtype(dtype, where)
        ).eval()
        check_backend(backend, self.model, self.dtype, where)
        self.tokenizing = found.tokenizing
        self.folder = found.folder
        self.settings = dict(found.settings)
        self._fingerprint: str | None = None

    @classmethod
    def made(cls, checkpoint: Checkpoint, opening: Opening) -> ModuleSequence:
        """Make the modules of a folder of another kind, or one without `modules.json`."""
        raise ModelError(f"{cls.__name__} cannot be made of {str(checkpoint.folder)!r}")

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The number format the model computes in."""
        formats = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(formats, torch.float32)

    @property
    def fingerprint(self) -> str:
        """Content hash of the model folder.

        Raises:
            ModelError: the model was built in memory and has not been saved yet.
        """
        if self._fingerprint is None:
            if self.folder is None:
                raise ModelError("a model built in memory has no fingerprint before it is saved")
            self._fingerprint = fingerprint_folder(self.folder)
        return self._fingerprint

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer."""
        return self.tokenizing.tokenization.tokenizer

    @property
    def max_seq_length(self) -> int | None:
        """Longest text in tokens, special tokens included; None is without limit."""
        return self.tokenizing.tokenization.max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        self.tokenizing.tokenization.max_seq_length = tokens

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt by name."""
        return self.tokenizing.prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        self.tokenizing.prompts = dict(prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt where none is asked for."""
        return self.tokenizing.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        self.tokenizing.default_prompt_name = name

    @property
    def tokens_per_batch(self) -> int:
        """The token budget of a batch where none is asked for."""
        if self.device.type != "cpu":
            return GPU_TOKENS_PER_BATCH
        threads = torch.get_num_threads()
        if self.backend in (TORCH, TORCH_INT8):
            return LANE_TOKENS_PER_THREAD * max(1, threads // self.batches_at_once)
        return FILE_TOKENS_PER_THREAD * threads

    def save_pretrained(self, path: str | Path, *, card: ModelCard | None = None) -> Path:
        """Write the model as a Sentence Transformers folder, which is whole or not there.

        Args:
            path: the folder; where it exists, its files are replaced.
            card: what to say in the model card.
        """
        target = Path(path)
        replace_folder(target, lambda folder: self._write(folder, card or ModelCard()))
        self.folder, self._fingerprint = target, None
        return target

    def push_to_hub(
        self, repo_id: str, *, card: ModelCard | None = None, **options: Unpack[PushOptions]
    ) -> str:
        """Write the model and send it to a model hub, in one commit.

        Args:
            repo_id: the repository, `owner/name`.
            card: what to say in the model card.
            options: `token`, `private`, `exist_ok`, `revision`, `create_pr` … as `push_folder`'s.

        Returns:
            The address of the commit.

        Raises:
            PlatformError: the hub refuses it or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            folder.mkdir()
            self._write(folder, card or ModelCard(name=repo_id.rsplit("/", 1)[-1]))
            return push_folder(folder, repo_id, **options)

    def _write(self, folder: Path, card: ModelCard) -> None:
        """Write modules, settings and card into an empty folder."""
        write_settings(folder, self._described())
        (folder / "README.md").write_text(write_card(card, self._facts()), encoding="utf-8")
        write_modules(self.model, folder)

    def _described(self) -> dict[str, Any]:
        """Return the settings written beside the model."""
        return {
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
            "model_type": self.model_type,
        }

    def _facts(self) -> Facts:
        """Return what the model card says of the model itself."""
        raise TypeError(f"{type(self).__name__} has no card")

    def to(self, device: str) -> None:
        """Move the model to another device."""
        self.model.to(pick_device(device))

    def pre(
        self,
        texts: Sequence[Text],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        task: str | None = None,
    ) -> TokenizedTexts:
        """Tokenize texts on the CPU, ragged; see `Tokenizing.pre`."""
        return self.tokenizing.pre(texts, prompt_name=prompt_name, prompt=prompt, task=task)

    def collate(self, tokens: TokenizedTexts) -> Features:
        """Pad tokens into one batch of features on the model's device."""
        tokenization = self.tokenizing.tokenization.routed(tokens.task)
        features = tokenization.pad(tokens, self.device)
        return features if tokens.task is None else {**features, "task": tokens.task}

    def features(self, tokens: TokenizedTexts) -> Features:
        """Run the model over one batch, without gradients, and return all its features."""
        with torch.inference_mode():
            features: Features = self.model(self.collate(tokens))
        return features

    def core(self, tokens: TokenizedTexts) -> Tensor:
        """Run the model over one padded batch and return its result, [B, …], on the device."""
        raise TypeError(f"{type(self).__name__} has no core")

    def batches(
        self,
        tokens: TokenizedTexts,
        tokens_per_batch: int | None = None,
        max_texts: int | None = None,
    ) -> Iterator[tuple[list[int], TokenizedTexts, BatchUsage]]:
        """Share tokens out into batches of similar length: (rows, their tokens, their cost)."""
        lengths = tokens.lengths
        budget = tokens_per_batch or self._budget(lengths)
        for rows in token_batches(lengths, budget, max_texts):
            longest = lengths[rows[0]]
            usage = BatchUsage(sum(lengths[row] for row in rows), longest * len(rows))
            yield rows, tokens.take(rows), usage

    def _budget(self, lengths: Sequence[int]) -> int:
        """Return the tokens of a batch such that side by side all end at about the same time."""
        most, lanes, tokens = self.tokens_per_batch, self.batches_at_once, sum(lengths)
        if lanes == 1 or tokens < lanes * LEAST_LANE_TOKENS:
            return most
        batches = lanes * math.ceil(tokens / (lanes * most))
        return min(most, math.ceil(tokens / batches) + max(lengths) - 1)

    def run_batches(
        self,
        run: Callable[[TokenizedTexts], Result],
        tokens: TokenizedTexts,
        tokens_per_batch: int | None = None,
        max_texts: int | None = None,
        *,
        show_progress_bar: bool = False,
    ) -> Iterator[tuple[list[int], Result, BatchUsage]]:
        """Run batches of similar length; on a CPU several side by side, a thread each.

        Args:
            run: takes one batch.
            tokens: what `pre` made.
            tokens_per_batch: tokens in a batch, padding included; None suits the device.
            max_texts: most texts in a batch.
            show_progress_bar: show how many batches are done.

        Yields:
            the batch's rows, what `run` returned, and what the batch cost.
        """
        batches = list(self.batches(tokens, tokens_per_batch, max_texts))

        def done(
            item: tuple[list[int], TokenizedTexts, BatchUsage],
        ) -> tuple[list[int], Result, BatchUsage]:
            rows, batch, usage = item
            return rows, run(batch), usage

        results = side_by_side(done, batches) if self.batches_at_once > 1 else map(done, batches)
        yield from progress(results, len(batches), show=show_progress_bar)

    @property
    def batches_at_once(self) -> int:
        """How many batches run side by side: on a CPU several; exported files have own threads."""
        beside = self.device.type == "cpu" and self.backend in (TORCH, TORCH_INT8)
        return lane_count() if beside else 1


@contextmanager
def on_device(encoder: Encoder, device: str | None) -> Iterator[None]:
    """Keep an encoder on another device for a while; None leaves it where it is."""
    if device is None:
        yield
        return
    before = str(encoder.device)
    encoder.to(device)
    try:
        yield
    finally:
        encoder.to(before)
