"""What a corpus of a given size takes: hours, money and memory, from measured stages.

    python tests/benchmarks/scale_model.py --model MODEL --corpus FILE.parquet --column text \
        --out docs/scale

Stages on the processor are measured here, in processor seconds, so that a busy machine does not
matter. The device's rate is computed from the model's arithmetic and the two numbers that are
assumptions until they are measured on the GPU at hand: its peak and the share of it that is used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = (10**6, 10**8, 10**10)
GPUS = (1, 8, 64)
LARGE = (24, 1024, 4096)
"""Layers, width and inner width of the usual large encoders (bge-large, e5-large)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the model is fed.

    Args:
        scan_s, tokenize_s, write_s: processor seconds of a text.
        tokens: tokens of a text, cut to the model's limit.
        flops: floating-point operations of a text's forward pass.
        peak: the device's operations a second; assumed_share: what encoding uses of them.
        cores: processor cores beside each GPU.
        price: of a GPU-hour, cores included.
        start_s: from submitting to the first shard.
        shard_rows: rows of a shard.
        row_bytes: bytes a row takes on disk.
        plan_bytes: bytes the driver keeps of a row while it plans, at its peak.
        receipt_bytes: bytes the driver keeps of a shard.
    """

    scan_s: float
    tokenize_s: float
    write_s: float
    tokens: float
    flops: float
    row_bytes: float
    peak: float = 989e12
    assumed_share: float = 0.3
    cores: int = 8
    price: float = 3.0
    start_s: float = 60.0
    shard_rows: int = 4096
    plan_bytes: float = 48.0
    receipt_bytes: float = 2500.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """One line of the table."""

    texts: int
    gpus: int
    device_h: float
    processor_h: float
    hours: float
    cost: float
    busy: float
    disk_gb: float
    driver_gb: float


def estimate(texts: int, gpus: int, figures: Figures) -> Estimate:
    """Return what encoding takes: stages overlap, so the slowest one counts.

    The scan is a pass of its own before the first shard; the last shards leave some GPUs idle.
    """
    device = texts * figures.flops / (figures.peak * figures.assumed_share * gpus)
    cores = gpus * figures.cores
    processor = texts * (figures.tokenize_s + figures.write_s) / cores
    scan = texts * figures.scan_s / cores
    shard_s = figures.shard_rows * figures.flops / (figures.peak * figures.assumed_share)
    seconds = figures.start_s + scan + max(device, processor) + shard_s
    return Estimate(
        texts,
        gpus,
        device / 3600,
        (processor + scan) / 3600,
        seconds / 3600,
        gpus * figures.price * seconds / 3600,
        device / seconds,
        texts * figures.row_bytes / 1e9,
        (texts * figures.plan_bytes + texts / figures.shard_rows * figures.receipt_bytes) / 1e9,
    )


def measure(model: Path, corpus: Path, column: str, texts: int) -> Figures:
    """Measure the stages that need no GPU, on one thread."""
    from raybert.artifacts import Folder, write_table
    from raybert.corpus import Columns
    from raybert.corpus.scan import ScanPiece
    from raybert.corpus.sources import cut_into_pieces, find_files
    from raybert.encoders import open_tokenizing

    pieces = cut_into_pieces(find_files([str(corpus)]))
    step = ScanPiece(Columns(column, ""))
    rows, scan = _timed(lambda: sum(step(piece).rows for piece in pieces))
    sample = pq.read_table(corpus, columns=[column])[column].to_pylist()[:texts]
    tokenizing = open_tokenizing(str(model))
    tokenized, tokenize = _timed(lambda: tokenizing.pre(sample))
    lengths = np.asarray(tokenized.lengths)
    width, flops = _arithmetic(model, lengths)
    table = _rows(len(sample), width)
    folder = Folder(Path(".raybert") / "scale")
    shard, write = _timed(lambda: write_table(folder, "shard.parquet", table))
    folder.remove()
    count = len(sample)
    return Figures(
        scan_s=scan / rows,
        tokenize_s=tokenize / count,
        write_s=write / count,
        tokens=float(lengths.mean()),
        flops=flops,
        row_bytes=shard.bytes / count,
    )


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    return call(), time.process_time() - begun


def _rows(count: int, width: int) -> pa.Table:
    """Return rows as an embeddings shard has them."""
    vectors = np.random.default_rng(0).standard_normal(count * width).astype(np.float32)
    hashes = [f"{number:032x}" for number in range(count)]
    return pa.table(
        {
            "id": [f"document-{number}" for number in range(count)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), width),
            "content": hashes,
        }
    )


def _arithmetic(model: Path, lengths: np.ndarray[Any, Any]) -> tuple[int, float]:
    """Return the model's width, and the operations of a mean text's forward pass.

    Two for each weight of a layer and each token; attention adds four times width and length.
    """
    config = json.loads((model / "config.json").read_text())
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    return width, _flops(layers, width, config["intermediate_size"], lengths.astype(np.float64))


def _flops(layers: int, width: int, inner: int, tokens: np.ndarray[Any, Any]) -> float:
    weights = layers * (4 * width**2 + 2 * width * inner)
    return float((2 * weights * tokens + layers * 4 * width * tokens**2).mean())


def table_of(estimates: Sequence[Estimate]) -> str:
    """Return the estimates as Markdown."""
    lines = [
        "| texts | GPUs | hours | of which device | cost | GPUs busy | on disk | driver |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| 10^{len(str(e.texts)) - 1} | {e.gpus} | {_short(e.hours)} | {_short(e.device_h)} "
        f"| {_short(e.cost)} | {e.busy:.0%} | {_short(e.disk_gb)} GB | {_short(e.driver_gb)} GB |"
        for e in estimates
    ]
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def draw(figures: Figures, out: Path) -> None:
    """Draw hours over the corpus's size, and how busy the GPUs are over cores beside them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = np.logspace(5, 10, 60)
    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for gpus in GPUS:
        hours = [estimate(int(size), gpus, figures).hours for size in sizes]
        left.loglog(sizes, hours, label=f"{gpus} GPUs" if gpus > 1 else "1 GPU")
    left.set(xlabel="texts", ylabel="hours", title="Encoding a corpus")
    left.grid(alpha=0.3)
    left.legend()
    cores = range(1, 33)
    for share in (0.1, 0.3, 0.5):
        busy = [
            estimate(10**8, 8, replace(figures, cores=n, assumed_share=share)).busy for n in cores
        ]
        right.plot(cores, busy, label=f"{share:.0%} of the peak used")
    right.set(xlabel="cores beside each GPU", ylabel="share of the time", ylim=(0, 1.02))
    right.set_title("GPUs busy, 10^8 texts on 8 GPUs")
    right.grid(alpha=0.3)
    right.legend()
    out.mkdir(parents=True, exist_ok=True)
    drawn.savefig(out / "encoding.png", dpi=110)


def main() -> None:
    """Measure, estimate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--column", default="text")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--peak", type=float, default=989e12, help="the GPU's operations a second")
    parser.add_argument("--share", type=float, default=0.3, help="share of them that is used")
    parser.add_argument("--cores", type=int, default=8, help="cores beside each GPU")
    parser.add_argument("--price", type=float, default=3.0, help="of a GPU-hour")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    figures = replace(
        measure(given.model, given.corpus, given.column, given.texts),
        peak=given.peak,
        assumed_share=given.share,
        cores=given.cores,
        price=given.price,
    )
    print(json.dumps(asdict(figures), indent=1))
    print(table_of([estimate(size, gpus, figures) for size in SIZES for gpus in GPUS]))
    large = replace(
        figures,
        flops=_flops(*LARGE, np.array([figures.tokens])),
        row_bytes=figures.row_bytes + 4 * (LARGE[1] - 384),
    )
    print("\nThe same with 24 layers of 1024:\n")
    print(table_of([estimate(size, gpus, large) for size in SIZES for gpus in GPUS]))
    draw(figures, given.out)


if __name__ == "__main__":
    main()
