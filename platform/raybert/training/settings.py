"""What a training is told: model, data, loss, batch, schedule, scale, evaluation, saving."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raybert.settings import JobSettings, Names, Settings
from raybert.training.data_settings import DataSettings, LossSettings, MixtureSettings


class BatchSettings(Settings):
    """What is in a batch and how it goes through the model."""

    size: int = Field(32, ge=1)
    """Rows of a batch, of all workers together: the same training on any number of them."""
    sampler: Literal["no_duplicates", "batch_sampler", "group_by_label"] = "no_duplicates"
    """no_duplicates: no text twice in a batch; batch_sampler: shuffled rows; group_by_label."""
    drop_last: bool = False
    """Leave out batches that are not full; always so with several workers."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one step of the optimizer."""
    gather: bool = True
    """Negatives come from the batches of all workers, not from a worker's own alone."""
    cached_rows: int | None = Field(None, ge=1)
    """Embed in mini-batches of so many rows, twice, and keep gradients of embeddings only
    (GradCache): memory for a small batch, result of a large one. Default: once, all in memory."""
    tokens_per_pass: int | None = Field(None, ge=1)
    """Tokens, padding included, of one forward pass; default: what suits the device."""


class ScheduleSettings(Settings):
    """How long and how fast."""

    epochs: int = Field(1, ge=1)
    """Times to go through the data."""
    max_steps: int | None = Field(None, ge=1)
    """Stop after so many steps of the optimizer; the schedule ends there too."""
    learning_rate: float = Field(2e-5, gt=0)
    """Highest learning rate."""
    learning_rate_mapping: dict[str, float] = Field(default_factory=dict)
    """Regular expression on parameter names -> learning rate; the first that matches counts."""
    kind: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate goes on after warm-up: down to 0 linearly, by a half cosine, or not at all."""
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of the steps over which the rate grows from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averages of gradient and squared gradient."""
    epsilon: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Longest gradient, longer ones are scaled down to it; 0 leaves them."""


class ScaleSettings(Settings):
    """Where training runs."""

    workers: int = Field(0, ge=0)
    """Data-parallel workers of Ray Train; 0: in this process, without Ray."""
    device: str = "auto"
    """auto, cpu or cuda; with workers, cuda gives each a GPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the forward pass (weights stay float32); auto: bfloat16 where a GPU has
    it."""
    threads: int | None = Field(None, ge=1)
    """CPU threads a worker; default: this machine's cores shared out."""
    least_workers: int | None = Field(None, ge=1)
    """Go on with as few workers, where nodes are lost and none comes in their place, and with
    `workers` when one does. `batch.size` is that of all workers, so the learning rate stays."""
    retries: int = Field(3, ge=0)
    """How often training goes on from its last checkpoint after a worker or node died."""
    split_weights: bool = False
    """Share weights, gradients and optimizer state out over the workers (FSDP2), for models that
    one device cannot hold; each text column then is one pass. Not for losses that bring weights
    or look into layers."""
    gradient_checkpointing: bool = False
    """Keep the inputs of layers only and compute their inside again for the gradient: less
    memory, a third more work, the same numbers."""
    compile: str | None = None
    """Back end of torch.compile for the transformer (`inductor`); default: not compiled."""


class LoraSettings(Settings):
    """Low-rank adapters (arXiv:2106.09685), added to the transformer's weights at the end."""

    rank: int = Field(16, ge=1)
    """Width of an adapter."""
    alpha: float = Field(32.0, gt=0)
    """Strength: the adapter's product is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs dropped while training."""
    layers: Names = Field(default_factory=list)
    """Linear layers that get one, by the last part of their name (`query`, `value`); default:
    what peft chooses for the architecture."""


class EvaluationSettings(Settings):
    """What is measured on the way, and what is made of it."""

    queries: Names | None = None
    """Retrieval: files of queries (id, text)."""
    corpus: Names | None = None
    """Retrieval: files of documents (id, text)."""
    qrels: str | None = None
    """Retrieval: judgements."""
    pairs: DataSettings | None = None
    """Graded pairs: two text columns and a score, measured by correlation."""
    labelled: DataSettings | None = None
    """Labelled pairs: two text columns and a label 0 or 1 (a cross-encoder of several labels: its
    class), measured by how well a threshold tells them apart."""
    translations: DataSettings | None = None
    """Two text columns, each row a text and its translation, found again both ways."""
    every: int | None = Field(None, ge=1)
    """Steps between two measurements; default: at the end of each epoch."""
    metric: str | None = None
    """Name of the metric that says which model is best; default: the main one."""
    greater_is_better: bool = True
    """Whether more of the metric is better."""
    load_best: bool = True
    """Save the best model measured, not the last."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many measurements without a better one; default: never."""


class SavingSettings(Settings):
    """Checkpoints, from which the same command goes on; the log; what becomes of the model."""

    every: int | None = Field(None, ge=1)
    """Steps between two checkpoints; default: ten a training."""
    keep: int = Field(2, ge=1)
    """Latest checkpoints to keep, besides the best; all go when the model is saved."""
    log_every: int = Field(10, ge=1)
    """Steps between two entries of the log, which are means over them."""
    log_model: bool = True
    """Log the model with its MLflow run, so that `mlflow.pyfunc` opens it from there."""
    register_as: str | None = None
    """Register the model as the next version of this name; see `raybert promote`."""


class TrainingSettings(JobSettings):
    """Everything a training is told."""

    model: str
    """Model folder to start from, or a hub's name."""
    data: MixtureSettings
    """Rows to train on."""
    loss: LossSettings = LossSettings()
    """The loss."""
    batch: BatchSettings = BatchSettings()
    """Batches."""
    schedule: ScheduleSettings = ScheduleSettings()
    """Steps and learning rate."""
    scale: ScaleSettings = ScaleSettings()
    """Workers and devices."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Measuring on the way."""
    saving: SavingSettings = SavingSettings()
    """Checkpoints and log."""
    lora: LoraSettings | None = None
    """Train low-rank adapters instead of all weights (extra `peft`)."""
    max_seq_length: int | None = Field(None, ge=1)
    """Cut texts to this many tokens; default: the model's own limit."""
    seed: int = 42
    """Seed of batches, dropout and new weights."""
