"""Running an ONNX file with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raybert.modules.backends import Runner


class OnnxModel(Runner):
    """A transformers model exported to ONNX."""

    def start(self, threads: int) -> Any:
        """Open an inference session on the CPU."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            str(self.file), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Return the output, float32."""
        session = self.engine()
        wanted = {item.name: inputs[item.name] for item in session.get_inputs()}
        (found,) = session.run([self.output], wanted)
        return np.asarray(found, dtype=np.float32)
