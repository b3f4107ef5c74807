"""Training on rows of which one window is held: the same rows, on again in the middle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raybert.corpus.stream import RowStream
from raybert.errors import InputError, SettingsError
from raybert.training import Job, make_training, open_data, train
from raybert.training.data_settings import DataSettings

Make = Callable[..., Job]


@pytest.fixture
def files(rows: pa.Table, tmp_path: Path) -> list[str]:
    """Forty-five rows in three files of several row groups."""
    cut = rows.select(["anchor", "positive"])
    for name, start, count in (("a", 0, 7), ("b", 7, 30), ("c", 37, 8)):
        part = cut.slice(start, count)
        pq.write_table(part, tmp_path / f"part-{name}.parquet", row_group_size=4)
    return [str(tmp_path / "part-*.parquet")]


def test_windows_are_the_rows_in_order(files: list[str], rows: pa.Table, ray_session: None) -> None:
    stream = RowStream(files, 16)
    assert stream.rows == 45
    windows = list(stream.windows())
    assert [len(window) for window in windows] == [16, 16, 13]
    wanted = rows["anchor"].to_pylist()[:45]
    assert pa.concat_tables(windows)["anchor"].to_pylist() == wanted
    with closing(stream.windows(2)) as later:
        assert next(later)["anchor"].to_pylist() == wanted[32:]
    assert list(stream.windows(3)) == []


def test_other_rows_are_another_training(files: list[str], tmp_path: Path) -> None:
    before = RowStream(files, 16).fingerprint
    assert RowStream(files, 7).fingerprint == before
    path = tmp_path / "part-b.parquet"
    table = pq.read_table(path)
    changed = ["another", *table["anchor"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "anchor", [changed]), path, row_group_size=4)
    assert RowStream(files, 16).fingerprint != before


def test_a_file_damaged_within_is_told(files: list[str], tmp_path: Path, ray_session: None) -> None:
    path = tmp_path / "part-b.parquet"
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    begins = column.dictionary_page_offset or column.data_page_offset
    data[begins : begins + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"part-b\.parquet: unreadable Parquet file: ."):
        list(RowStream(files, 16).windows())


def test_a_streamed_training_goes_on_in_the_middle(
    files: list[str], make_job: Make, ray_session: None, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "batch": {"size": 8, "sampler": "batch_sampler"},
        "schedule": {"epochs": 2, "learning_rate": 1e-3},
        "saving": {"every": 4, "log_every": 1},
    }

    def stop(values: Any, step: int) -> None:
        if step == 7:
            raise InterruptedError

    streamed = {"files": files, "window": 16}
    job = make_job(data=streamed, out=str(tmp_path / "streamed"), **settings)
    with closing(open_data(job.settings.data)) as data:
        first = make_training(job, data)
        first.log = stop
        with pytest.raises(InterruptedError):
            train(first)
    with closing(open_data(job.settings.data)) as data:
        again = make_training(job, data)
        train(again)
        sampler = make_training(job, data).batches.sampler
    assert again.progress.step == 12  # two epochs of 2 + 2 + 2 batches

    held = make_training(make_job(data={"files": files}, out=str(tmp_path / "held"), **settings))
    held.batches.sampler = sampler
    train(held)
    for name, weight in held.encoder.model.state_dict().items():
        torch.testing.assert_close(again.encoder.model.state_dict()[name], weight, rtol=0, atol=0)


def test_what_a_window_cannot_do_is_refused(
    files: list[str], make_job: Make, ray_session: None, tmp_path: Path
) -> None:
    window: dict[str, Any] = {"files": files, "window": 16}
    needs_all = make_job(data=window)
    small = make_job(data={**window, "window": 4}, batch={"size": 8, "sampler": "batch_sampler"})
    for job, told in (
        (needs_all, r"window: batch\.sampler no_duplicates needs all rows"),
        (small, "window 4: batches of 8 rows do not fit"),
    ):
        with (
            closing(open_data(job.settings.data)) as data,
            pytest.raises(SettingsError, match=told),
        ):
            make_training(job, data)
    with pytest.raises(SettingsError, match=r"data\.window: not together with data\.rows"):
        open_data(DataSettings(**window, rows=3))
    lacking = pa.table({"anchor": ["a", "b", "c"], "positive": ["b", None, "c"]})
    pq.write_table(lacking, tmp_path / "part-d.parquet")
    with (
        closing(open_data(DataSettings(**window))) as data,
        pytest.raises(InputError, match="rows from 32: column 'positive' is null in row 14"),
    ):
        data.texts("anchor", [33, 40])
    (tmp_path / "lines.jsonl").write_text('{"anchor": "a", "positive": "b"}')
    with pytest.raises(InputError, match="Parquet is expected where rows are read in windows"):
        open_data(DataSettings(files=[str(tmp_path / "lines.jsonl")], window=8))
