"""Exporting a model folder for another engine than torch.

The folder stays what it was, with a file more, where sentence-transformers looks for it too.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybert.artifacts import (
    MANIFEST,
    Folder,
    Input,
    Manifest,
    Shard,
    fingerprint_folder,
    hash_bytes,
    write_manifest,
)
from raybert.encoders.base import Encoder
from raybert.errors import ModelError, SettingsError
from raybert.modules import Opening, Text, Transformer, read_checkpoint
from raybert.modules.onnx_export import export_onnx, optimize_onnx, quantize_onnx, this_cpu
from raybert.modules.openvino_runner import convert_to_openvino, quantize_openvino

QUANTIZED = "int8"
"""Eight bits, for this machine's CPU."""


@dataclass(frozen=True, slots=True)
class Export:
    """How a model is exported.

    Args:
        backend: "onnx" or "openvino".
        optimize: "O1" to "O4" (ONNX), or None.
        quantize: "int8" for this CPU, or one of `onnx_export.TARGETS`; None keeps float32.
        trust_remote_code: run Python code that lies in the folder.
    """

    backend: str = "onnx"
    optimize: str | None = None
    quantize: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.backend == "openvino" and self.optimize:
            raise SettingsError(f"--optimize {self.optimize}: is for onnx; openvino has its own")
        if self.backend == "openvino" and self.quantize not in (None, QUANTIZED):
            raise SettingsError(f"--quantize {self.quantize}: openvino has only int8")
        if self.optimize and self.quantize:
            raise SettingsError(
                "--optimize with --quantize: an int8 file is fused anyway; give one"
            )

    @property
    def file(self) -> str:
        """The exported file, as sentence-transformers names it."""
        if self.backend == "openvino":
            return f"openvino/openvino_model{'_qint8_quantized' if self.quantize else ''}.xml"
        if self.quantize:
            return f"onnx/model_qint8_{self.target}.onnx"
        return f"onnx/model{f'_{self.optimize}' if self.optimize else ''}.onnx"

    @property
    def target(self) -> str:
        """The CPU that an int8 file is for."""
        return this_cpu() if self.quantize == QUANTIZED else str(self.quantize)

    @property
    def name(self) -> str:
        """The back end that runs the file, with its name."""
        return f"{self.backend}:{Path(self.file).name}"


def export_folder(encoder: Encoder, out: Path, how: Export, probes: Sequence[Text]) -> Path:
    """Copy a model's folder and add the exported file.

    Args:
        encoder: the model, opened from its folder with torch.
        out: the new folder; its files are replaced where it exists.
        how: what to export.
        probes: texts to set the ranges of static quantization by (OpenVINO's int8).

    Returns:
        The exported file.

    Raises:
        ModelError: the model does not begin with a transformer, or that cannot be exported.
    """
    first, folder = encoder.model[0], encoder.folder
    if folder is None or not isinstance(first, Transformer):
        raise ModelError(f"only a folder that begins with a transformer is exported, not {folder}")
    ignored = shutil.ignore_patterns(MANIFEST, ".git", ".cache", "__pycache__")
    shutil.copytree(folder, out, dirs_exist_ok=True, ignore=ignored)
    source = read_checkpoint(folder).transformer
    file = out / source.relative_to(folder) / how.file
    file.parent.mkdir(exist_ok=True)
    opening = Opening(trust_remote_code=how.trust_remote_code)
    with tempfile.TemporaryDirectory(prefix="raybert-export-") as scratch:
        plain = Path(scratch) / "plain.onnx"
        export_onnx(source, first.task, opening, plain)
        _finish(plain, file, how, encoder, probes)
    return file


def _finish(plain: Path, file: Path, how: Export, encoder: Encoder, probes: Sequence[Text]) -> None:
    """Turn the plain ONNX file into the one that was asked for."""
    config = encoder.model[0].model.config  # type: ignore[union-attr]
    if how.backend == "openvino" and how.quantize:
        batches = (encoder.collate(encoder.pre([text])) for text in probes)
        quantize_openvino(plain, file, batches)
    elif how.backend == "openvino":
        convert_to_openvino(plain, file)
    elif how.quantize:
        fused = plain.with_name("fused.onnx")
        optimize_onnx(plain, fused, "O2", config)
        quantize_onnx(fused, file, how.target)
    elif how.optimize:
        optimize_onnx(plain, file, how.optimize, config)
    else:
        shutil.copyfile(plain, file)


def finish_export(
    out: Path,
    source: Input,
    *,
    settings: dict[str, Any],
    details: dict[str, Any],
    mlflow_run: str | None,
) -> Manifest:
    """Write the manifest of an exported folder, last of all its files.

    Args:
        out: the folder.
        source: the model it was made of.
        settings: the job's settings.
        details: back end, file and what was measured.
        mlflow_run: the MLflow run.
    """
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = Manifest(
        kind="model",
        fingerprint=fingerprint_folder(out),
        settings=settings,
        inputs=(source,),
        shards=tuple(_file(path, out) for path in paths),
        details=details,
        mlflow_run=mlflow_run,
    )
    return write_manifest(Folder(out), manifest)


def _file(path: Path, out: Path) -> Shard:
    """Return a file's line of the manifest."""
    data = path.read_bytes()
    name = path.relative_to(out).as_posix()
    return Shard(file=name, rows=0, bytes=len(data), checksum=hash_bytes(data))
