"""Running an OpenVINO model, and making one of an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from raybert.errors import ModelError
from raybert.modules.backends import Runner
from raybert.modules.module import Features


class OpenvinoModel(Runner):
    """A transformers model exported to OpenVINO; it computes in float32 unless it holds int8."""

    def start(self, threads: int) -> Any:
        """Compile the model for the CPU."""
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        return openvino.Core().compile_model(str(self.file), "CPU", options)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Return the output, float32."""
        model = self.engine()
        wanted = {item.any_name: inputs[item.any_name] for item in model.inputs}
        return np.array(model(wanted)[model.output(0)], dtype=np.float32)


def convert_to_openvino(onnx_file: Path, file: Path) -> None:
    """Write an ONNX file as an OpenVINO model: `file` (.xml), and its weights beside it (.bin)."""
    import openvino

    openvino.save_model(openvino.convert_model(str(onnx_file)), str(file), compress_to_fp16=False)


def quantize_openvino(onnx_file: Path, file: Path, batches: Iterable[Features]) -> None:
    """Write an ONNX file as an OpenVINO model with int8 products, ranges set by `batches`.

    Raises:
        ModelError: the package that does it is not installed.
    """
    if find_spec("nncf") is None:
        raise ModelError(
            "int8 for openvino needs the package nncf: pip install 'raybert[openvino]'"
        )
    import nncf
    import openvino

    model = openvino.convert_model(str(onnx_file))
    names = [item.any_name for item in model.inputs]
    rows = [_arrays(batch, names) for batch in batches]
    quantized = nncf.quantize(
        model, nncf.Dataset(rows), subset_size=len(rows), model_type=nncf.ModelType.TRANSFORMER
    )
    openvino.save_model(quantized, str(file), compress_to_fp16=False)


def _arrays(batch: Features, names: Sequence[str]) -> dict[str, Any]:
    """Return the features the model takes; segments are zero where there are none."""
    ids = batch["input_ids"].cpu()
    return {name: batch.get(name, ids * 0).cpu().numpy() for name in names}
