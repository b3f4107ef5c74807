"""What a training is told of its rows and of the loss they are for."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from raybert.settings import Names, Settings


class LossSettings(Settings):
    """The loss, by name."""

    name: str | None = None
    """Name of the loss, see docs/losses.md; default: what fits the model and the columns."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The loss's own settings."""
    guide: str | None = None
    """GISTEmbedLoss: model that says which candidates are no negatives; default: the model that
    training starts from."""


class TextsSettings(Settings):
    """Texts by id, for columns of rows that hold ids."""

    files: Names
    """Files of texts."""
    id_column: str = "id"
    """Column that holds the id."""
    text_column: str = "text"
    """Column that holds the text."""


class DataSettings(Settings):
    """Rows: text columns in order, and a label where the loss needs one."""

    files: Names
    """Parquet, JSONL, CSV or TSV files (paths, folders, globs, remote), or a `datasets` folder."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column to use -> column of the data, in order (`{anchor: question, positive: answer}`);
    default: all columns of the data as they are. The label is called label, labels, score or
    scores."""
    spread: dict[str, int] = Field(default_factory=dict)
    """Column of lists -> how many entries of each list to use: of texts (negatives), each becomes
    a column of its own; of scores, the rest is left out."""
    texts: dict[str, TextsSettings] = Field(default_factory=dict)
    """Column of ids -> the texts they stand for, looked up batch by batch."""
    prompts: dict[str, str] = Field(default_factory=dict)
    """Column -> text to put before its texts."""
    images: Names = Field(default_factory=list)
    """Columns that hold pictures, a file's bytes or its path, for a model that reads both."""
    routes: dict[str, str] = Field(default_factory=dict)
    """Column -> route of a model that has routes: query or document."""
    tension: int | None = Field(None, ge=1)
    """ContrastiveTensionLoss: from one text column, pair each text with itself (label 1) and with
    so many others (label 0)."""
    rows: int | None = Field(None, ge=1)
    """Use the first so many rows; default: all."""
    window: int | None = Field(None, ge=1)
    """Hold so many rows at a time, and twice as many that Ray reads ahead (Parquet alone), for more
    than memory holds. Batches are drawn within a window, by `batch.sampler: batch_sampler`."""


class PartSettings(DataSettings):
    """One of several datasets, with a loss of its own."""

    loss: LossSettings = LossSettings()
    """The loss of these rows; default: what fits the model and the columns."""


class MixtureSettings(DataSettings):
    """Rows to train on, of one dataset or of several; a batch is always of one of them."""

    also: dict[str, PartSettings] = Field(default_factory=dict)
    """Further datasets by name."""
    mixing: Literal["proportional", "round_robin"] = "proportional"
    """Order of several datasets' batches: in proportion to their rows, all of them used up; or in
    turn, until the shortest is used up."""
