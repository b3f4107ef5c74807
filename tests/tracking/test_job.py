from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from raybert.errors import PlatformError
from raybert.settings import JobSettings, Settings
from raybert.tracking import job, reopen_run


class Loss(Settings):
    scale: float = 20.0


class Encode(JobSettings):
    """Encode texts."""

    columns: tuple[str, ...] = ("title", "text")
    loss: Loss = Loss()


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAYBERT_HOME", str(tmp_path / "home"))
    return f"sqlite:///{tmp_path}/mlflow.db"


def settings(uri: str | None, out: str = "out") -> Encode:
    return Encode(out=out, experiment="tests", tracking_uri=uri)


def test_a_job_is_a_finished_run_with_parameters_metrics_inputs_and_files(
    uri: str, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    report.write_text("# report")
    with job(settings(uri), name="encode faq", kind="encode_corpus") as run:
        run.input("corpus", "data/demo/docs.parquet", "xxh3:00ff")
        for step in range(3):
            run.metrics({"recall@10": step / 2, "rows_per_second": 100.0}, step)
        run.tag("device", "cpu")
        run.artifact(report)
    client = mlflow.MlflowClient(tracking_uri=uri)
    assert run.run_id is not None
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "encode faq"
    assert found.data.params["loss.scale"] == "20.0"
    assert found.data.params["columns"] == '["title", "text"]'
    assert found.data.metrics["recall_at_10"] == 1.0
    history = client.get_metric_history(run.run_id, "recall_at_10")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    tags = found.data.tags
    assert (tags["raybert.kind"], tags["raybert.out"], tags["device"]) == (
        "encode_corpus",
        "out",
        "cpu",
    )
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("docs.parquet", "xxh3:00ff")
    assert [tag.value for tag in dataset.tags] == ["corpus"]
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["report.md"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("broken"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
)
def test_how_a_job_ends_is_how_its_run_ends(uri: str, error: BaseException, status: str) -> None:
    ids: list[str] = []

    def fail() -> None:
        with job(settings(uri), name="ends", kind="try") as run:
            ids.append(str(run.run_id))
            run.metric("loss", 0.5)
            raise error

    with pytest.raises(type(error)):
        fail()
    found = mlflow.MlflowClient(tracking_uri=uri).get_run(ids[0])
    assert found.info.status == status
    assert found.data.metrics["loss"] == 0.5


def test_none_tracks_nothing(uri: str, tmp_path: Path) -> None:
    with job(settings("none"), name="nothing", kind="try") as run:
        run.metric("loss", 0.5)
        run.artifact(tmp_path / "not there")
    assert run.run_id is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:9", "nonsense", "file:///somewhere"])
def test_a_wrong_uri_is_one_clear_line_at_the_start(uri: str, wrong: str) -> None:
    with (
        pytest.raises(PlatformError) as caught,
        job(settings(wrong), name="wrong", kind="try"),
    ):
        pytest.fail("the job began")
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_says_more_of_a_run_and_does_not_end_it(uri: str) -> None:
    with job(settings(uri), name="train", kind="try") as run:
        worker = reopen_run(run.tracking_uri, run.run_id)
        worker.metric("loss", 0.25, step=7)
        assert worker.flush()
        found = mlflow.MlflowClient(tracking_uri=uri).get_run(str(run.run_id))
        assert (found.info.status, found.data.metrics["loss"]) == ("RUNNING", 0.25)
    assert reopen_run("none", None).run_id is None


def test_a_worker_whose_server_is_away_goes_on(uri: str) -> None:
    worker = reopen_run("http://127.0.0.1:9", "abc")
    worker.metric("loss", 0.25)
    assert not worker.flush()


def test_a_run_of_a_killed_attempt_is_gone_on_with(uri: str) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        job(settings(uri), name="train", kind="try") as first,
    ):
        raise KeyboardInterrupt
    with job(settings(uri), name="train", kind="try", run_id=first.run_id) as second:
        second.metric("loss", 0.5)
    assert second.run_id == first.run_id
    found = mlflow.MlflowClient(tracking_uri=uri).get_run(str(first.run_id))
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 0.5)
    with job(settings(uri), name="train", kind="try", run_id="0" * 32) as third:
        assert third.run_id not in (None, first.run_id, "0" * 32)
