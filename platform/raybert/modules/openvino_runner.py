"""Running an OpenVINO model, and making one of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raybert.modules.backends import Runner


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
