"""What runs a transformer: torch, or a file that was exported for another engine.

An exported file lies where sentence-transformers looks for it: `onnx/model.onnx`,
`onnx/model_O3.onnx`, `onnx/model_qint8_avx512_vnni.onnx`, `openvino/openvino_model.xml`. A back end
is named by one string: "torch", "torch:int8", "onnx", "openvino", or one of the last two with the
file it shall run, as in "onnx:model_O3.onnx".
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raybert.errors import ModelError
from raybert.modules.module import Opening

TORCH = "torch"
TORCH_INT8 = "torch:int8"
TORCH_UNPADDED = "torch:unpadded"
OWN = (TORCH, TORCH_INT8, TORCH_UNPADDED)
"""Back ends that need no exported file."""
"""torch with the stack's products in eight bits, packed when the model is opened."""
AUTO = "auto"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Back end, which is also its folder's name, to what its files end in."""
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
_RUNNERS = {
    "onnx": ("raybert.modules.onnx_runner", "OnnxModel"),
    "openvino": ("raybert.modules.openvino_runner", "OpenvinoModel"),
}
_DEFAULTS = {"onnx": "model.onnx", "openvino": "openvino_model.xml"}


class Runner(nn.Module):
    """Stands in for a transformers model; an engine other than torch runs it, on the CPU.

    The engine starts at the first call, with as many threads as torch has then. A copy or a pickle
    carries the file's name, not the engine.

    Args:
        file: the exported file.
        config: the transformers configuration.
        output: name of what the model gives: "last_hidden_state" or "logits".
    """

    def __init__(self, file: Path, config: Any, output: str) -> None:
        super().__init__()
        self.file = file
        self.config = config
        self.output = output
        self._engine: tuple[int, Any] | None = None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        return_dict: bool = True,
    ) -> dict[str, Tensor]:
        """Run the file over [B, T] ids.

        Raises:
            ModelError: gradients are wanted, or the engine cannot run the file.
        """
        if torch.is_grad_enabled():
            raise ModelError(f"{self.file}: an exported model cannot be trained; open with torch")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        given = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": types}
        found = self.run({name: tensor.cpu().numpy() for name, tensor in given.items()})
        return {self.output: torch.from_numpy(found)}

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Return the output, float32; inputs that the file does not take are left out."""
        raise TypeError(f"{type(self).__name__} runs nothing")

    def start(self, threads: int) -> Any:
        """Open the file in the engine."""
        raise TypeError(f"{type(self).__name__} starts nothing")

    def engine(self) -> Any:
        """Return the running engine; it is started again when torch's threads have changed.

        Raises:
            ModelError: it cannot open the file.
        """
        threads = torch.get_num_threads()
        if self._engine is None or self._engine[0] != threads:
            try:
                self._engine = (threads, self.start(threads))
            except Exception as error:  # noqa: BLE001 engines raise kinds of their own
                said = " ".join(str(error).split())[:200]
                raise ModelError(f"{self.file}: cannot be run: {said}") from None
        return self._engine[1]

    def save_pretrained(self, folder: str) -> None:
        """Refuse: the weights lie in the exported file.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.file}: an exported model is not saved again; copy its folder")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}


def open_runner(folder: Path, config: Any, opening: Opening, output: str) -> Runner:
    """Open the exported file of a transformer's folder.

    Raises:
        ModelError: unknown back end, its package is missing, or there is no such file.
    """
    engine, file = exported_file(folder, opening.backend)
    if find_spec(PACKAGES[engine]) is None:
        raise ModelError(
            f"backend {engine!r} needs the package {PACKAGES[engine]}: "
            f"pip install 'raybert[{engine}]'"
        )
    module, name = _RUNNERS[engine]
    runner: Runner = getattr(importlib.import_module(module), name)(file, config, output)
    return runner


def exported_file(folder: Path, backend: str) -> tuple[str, Path]:
    """Return the engine and the file that a back end's name means in a transformer's folder.

    Raises:
        ModelError: there is no such back end or file, or several files and none is the default.
    """
    engine, _, name = backend.partition(":")
    if engine not in SUFFIXES:
        known = ", ".join([*OWN, *SUFFIXES, AUTO])
        raise ModelError(f"backend {backend!r}: allowed are {known}, and ENGINE:FILE")
    found = {path.name: path for path in _files(folder, engine)}
    if not name:
        name = _DEFAULTS[engine] if _DEFAULTS[engine] in found else next(iter(found), "")
        if len(found) > 1 and name != _DEFAULTS[engine]:
            raise ModelError(
                f"backend {engine!r}: {str(folder / engine)!r} has several files; name one: "
                + ", ".join(f"{engine}:{file}" for file in found)
            )
    if name not in found:
        has = ", ".join(found) or f"no {SUFFIXES[engine]} file"
        raise ModelError(
            f"backend {backend!r}: {str(folder / engine)!r} has {has}; "
            "pipelines/export_model.py makes one"
        )
    return engine, found[name]


def available_backends(folder: Path) -> list[str]:
    """Return the names of all back ends that can run a transformer's folder here, torch first.

    torch in eight bits is one of them where the folder holds a file in eight bits, as whoever made
    that has accepted what they cost.
    """
    files = [
        f"{engine}:{path.name}"
        for engine in SUFFIXES
        if find_spec(PACKAGES[engine]) is not None
        for path in _files(folder, engine)
    ]
    return [TORCH, *([TORCH_INT8] if any("int8" in name for name in files) else []), *files]


def _files(folder: Path, engine: str) -> list[Path]:
    """Return the exported files for an engine, by name."""
    return sorted((folder / engine).glob(f"*{SUFFIXES[engine]}"))
