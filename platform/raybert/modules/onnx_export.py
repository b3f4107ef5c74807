"""Exporting a transformer to ONNX, and making the file faster: fusion (O1 to O4) and int8.

Written with torch's exporter, as the packages made for it do not go with transformers 5 (see
docs/decisions). Names of inputs and outputs are those that sentence-transformers expects.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raybert.devices import cpu_features
from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line
from raybert.modules.module import Opening
from raybert.modules.pretrained import TASKS, max_positions, open_config, open_model
from raybert.modules.transformer import INPUTS

OPSET = 18
LEVELS = ("O1", "O2", "O3", "O4")
"""O1 folds constants; O2 also fuses attention, norms and GELU; O3 takes GELU's approximation; O4
computes in float16, for GPUs."""
TARGETS = ("avx2", "avx512", "avx512_vnni", "arm64")
"""What an int8 file is made for. Without VNNI weights have 7 bits: 8 would overflow sums."""
_LONGEST = 512


class _Traced(nn.Module):
    """A transformers model as a function of its inputs in a fixed order."""

    def __init__(self, model: Any, names: list[str], output: str) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.output = output

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        found: Tensor = self.model(**given, return_dict=True)[self.output]
        return found


def export_onnx(folder: Path, task: str, opening: Opening, file: Path) -> None:
    """Write a transformers folder as an ONNX file with free batch and sequence lengths.

    Args:
        folder: the transformer's folder.
        task: what is taken from it: one of `TASKS`.
        opening: how the folder is opened.
        file: where to write.

    Raises:
        ModelError: torch cannot export this architecture.
    """
    config = open_config(folder, opening)
    # Plain attention: its pattern is what ONNX Runtime knows how to fuse.
    config._attn_implementation = "eager"
    model = open_model(folder, config, opening, task)
    accepted = inspect.signature(model.forward).parameters
    names = [name for name in INPUTS if name in accepted]
    if task == "feature-extraction" and getattr(config, "type_vocab_size", 1) == 0:
        names.remove("token_type_ids")
    ids = torch.ones((2, 7), dtype=torch.int64)
    free = {
        0: torch.export.Dim("batch_size"),
        1: torch.export.Dim("sequence_length", max=max_positions(config) or _LONGEST),
    }
    output = TASKS[task][1]
    try:
        with _silent(), torch.no_grad():
            program = torch.onnx.export(
                _Traced(model, names, output).eval(),
                tuple(ids.clone() for _ in names),
                input_names=names,
                output_names=[output],
                dynamic_shapes=(tuple(free for _ in names),),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(str(file), external_data=False)
    except Exception as error:  # noqa: BLE001 every kind, each meaning: not exportable
        raise ModelError(f"{str(folder)!r} cannot be exported: {first_line(error)}") from None


def optimize_onnx(file: Path, out: Path, level: str, config: Any) -> None:
    """Fuse what ONNX Runtime can fuse.

    Args:
        file: the exported file.
        out: the optimized file.
        level: one of `LEVELS`.
        config: the transformers configuration.
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_gelu_approximation = level in ("O3", "O4")
    with _silent():
        model = optimizer.optimize_model(
            str(file),
            model_type="bert",
            num_heads=int(getattr(config, "num_attention_heads", 0)),
            hidden_size=int(getattr(config, "hidden_size", 0)),
            opt_level=1,
            optimization_options=None if level == "O1" else options,
            only_onnxruntime=level == "O1",
        )
        if level == "O4":
            model.convert_float_to_float16(keep_io_types=True)
        model.save_model_to_file(str(out))


def quantize_onnx(file: Path, out: Path, target: str) -> None:
    """Give the products int8 weights, a scale for each output; activations are scaled per batch.

    Args:
        file: an exported file, best an optimized one.
        out: the quantized file.
        target: one of `TARGETS`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    signed = target == "arm64"
    with _silent():
        quantize_dynamic(
            str(file),
            str(out),
            op_types_to_quantize=["MatMul", "Attention", "Gemm"],
            per_channel=True,
            reduce_range=target in ("avx2", "avx512"),
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": 1, "ActivationSymmetric": signed},
        )


def this_cpu() -> str:
    """Return the one of `TARGETS` that this machine's CPU is."""
    features = cpu_features()
    if "asimd" in features:
        return "arm64"
    if "avx512_vnni" in features or "avx_vnni" in features:
        return "avx512_vnni"
    return "avx512" if "avx512f" in features else "avx2"


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporters' own reports out of ours; faults are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
