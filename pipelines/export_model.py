"""Export a model for another engine than torch: a model in, a model artifact out.

    python pipelines/export_model.py --model all-MiniLM-L6-v2 --backend onnx --quantize int8 \
        --out artifacts/minilm-int8

The artifact is the same model folder with a file more; what the file gives is compared with torch
in float32 on a probe set, and refused below a floor. `--backend onnx` then runs it in every job.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from raybert.artifacts import Folder, Input, finished
from raybert.encoders import open_encoder
from raybert.encoders.exporting import Export, export_folder, finish_export
from raybert.encoders.fastest import seconds_of
from raybert.errors import ModelError, SettingsError
from raybert.evaluation.agreement import DOCUMENTS, QUERIES, Agreement, compare, outputs
from raybert.modules import locate_model
from raybert.settings import JobSettings, run_job
from raybert.tracking import job


class ExportModel(JobSettings):
    """Export a model for another engine than torch: a model in, a model artifact out."""

    model: str
    """Model folder in the Sentence Transformers format, or a hub's name."""
    backend: Literal["onnx", "openvino"] = "onnx"
    """The engine: ONNX Runtime or OpenVINO, both on the CPU."""
    optimize: Literal["O1", "O2", "O3", "O4"] | None = None
    """ONNX: O1 folds constants, O2 fuses layers, O3 approximates GELU, O4 is float16 (GPUs)."""
    quantize: Literal["int8", "avx2", "avx512", "avx512_vnni", "arm64"] | None = None
    """Eight bits: `int8` for this machine's CPU, or the CPU it is meant for."""
    min_cosine: float | None = Field(None, ge=-1, le=1)
    """Refuse an export with a lower mean cosine to float32; default: 0.9999, quantized 0.97."""
    min_ranking: float | None = Field(None, ge=0, le=1)
    """Refuse one that orders fewer pairs of documents alike; default: 0.999, quantized 0.93."""
    trust_remote_code: bool = False
    """Run Python code that lies in the model's folder."""


def main(settings: ExportModel) -> str:
    """Export the model; returns where the artifact lies."""
    how = Export(settings.backend, settings.optimize, settings.quantize, settings.trust_remote_code)
    model, out = locate_model(settings.model), Folder(settings.out)
    if out.local is None:
        raise SettingsError(f"--out {settings.out}: a model is exported to a local folder")
    options: dict[str, Any] = {
        "device": "cpu",
        "trust_remote_code": settings.trust_remote_code,
    }
    plain = open_encoder(model, dtype="float32", **options)
    source = Input(kind="model", uri=str(model.absolute()), fingerprint=plain.fingerprint)
    if (done := finished(out)) is not None:
        if done.inputs != (source,) or done.details.get("backend") != how.name:
            raise ModelError(f"{out}: holds another model; give a new --out")
        print(f"nothing to do: {how.file} is exported already")
        return settings.out

    with job(settings, name=f"export {Path(settings.out).name}", kind="export_model") as run:
        run.input(source.kind, source.uri, source.fingerprint)
        file = export_folder(plain, out.local, how, [*QUERIES, *DOCUMENTS])
        exported = open_encoder(out.local, backend=how.name, **options)
        found = compare(outputs(plain), outputs(exported))
        if faults := _faults(settings, found):
            shutil.rmtree(file.parent)
            raise ModelError(f"{how.file} is too far from float32, and was removed: {faults}")
        speed = seconds_of(plain) / seconds_of(exported)
        measured = {**found.as_dict(), "times_torch": speed, "bytes": file.stat().st_size}
        run.metrics(measured)
        finish_export(
            out.local,
            source,
            settings=settings.model_dump(mode="json"),
            details={"backend": how.name, "file": how.file, "measured": measured},
            mlflow_run=run.run_id,
        )
    print(", ".join(f"{name} {value:.6g}" for name, value in measured.items()))
    if speed < 1:
        print(f"slower than torch on this machine ({speed:.2f}x): `--backend auto` takes torch")
    return settings.out


def _faults(settings: ExportModel, found: Agreement) -> str:
    """Say what lies below the floor."""
    cosine, ranking = (0.97, 0.93) if settings.quantize else (0.9999, 0.999)
    floors = {
        "mean_cosine": cosine if settings.min_cosine is None else settings.min_cosine,
        "ranking": ranking if settings.min_ranking is None else settings.min_ranking,
    }
    values = found.as_dict()
    below = [name for name, floor in floors.items() if not values[name] >= floor]
    return ", ".join(f"{name} {values[name]:.4f} < {floors[name]}" for name in below)


if __name__ == "__main__":
    run_job(ExportModel, main)
