from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from raybert.errors import InputError, SettingsError
from raybert.settings import JobSettings, Names, Settings, fault, home, read_yaml


class Loss(Settings):
    scale: float = 20.0
    """Scale."""


class Job(JobSettings):
    """A job."""

    corpus: Names
    """Files."""
    top_k: int = Field(10, ge=1)
    """Hits."""
    normalize: bool = False
    """Unit length."""
    loss: Loss = Loss()
    """Loss."""


def read(*argv: str) -> Job:
    return Job.from_command_line(argv)


def test_flags_are_the_settings() -> None:
    job = read("--out", "o", "--corpus", "a", "--corpus", "b", "--normalize", "--loss.scale", "5")
    assert (job.out, job.corpus, job.normalize, job.loss.scale) == ("o", ["a", "b"], True, 5.0)
    assert (job.top_k, job.experiment, job.tracking_uri) == (10, "raybert", None)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("out: o\ncorpus: a\ntop-k: 3\nloss: {scale: 2}\n")
    job = read("--config", str(file), "--top-k", "4")
    assert (job.corpus, job.top_k, job.loss.scale) == (["a"], 4, 2.0)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--out is required"),
        (["--out", "o", "--corpus", "a", "--top-k", "0"], "--top-k '0'"),
        (["--out", "o", "--corpus", "a", "--top-k", "many"], "--top-k 'many'"),
        (["--out", "o", "--corpus", "a", "--colour", "red"], "--colour"),
        (["--config"], "--config needs a YAML file"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(*argv)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out: o\ncorpus: a\ncolour: red\n", "unknown setting 'colour'"),
        ("- a\n", "a mapping"),
        ("a: [", "YAML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read("--config", str(file))
    assert str(file) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP_K", "99")
    monkeypatch.setenv("OUT", "elsewhere")
    with pytest.raises(SettingsError, match="--out is required"):
        read("--corpus", "a")
    assert read("--out", "o", "--corpus", "a").top_k == 10


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Loss().scale = 1.0  # type: ignore[misc]


def test_keys_may_have_dashes(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("top-k: 3")
    assert read_yaml(file) == {"top_k": 3}


def test_home_is_an_absolute_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYBERT_HOME")
    assert home() == tmp_path / ".raybert"
    monkeypatch.setenv("RAYBERT_HOME", "elsewhere")
    assert home() == tmp_path / "elsewhere"


def test_an_error_that_came_through_ray_is_told_by_its_cause() -> None:
    error = RuntimeError("a long\ntraceback")
    error.cause = InputError("row 3 of\ndocs.parquet")  # type: ignore[attr-defined]
    assert fault(error) == "row 3 of docs.parquet"


JOB = """
import os, signal
from raybert.errors import InputError
from raybert.settings import JobSettings, run_job


class Job(JobSettings):
    "A job."

    ends: str


def main(settings):
    if settings.ends == "fault":
        raise InputError("docs.parquet: row 3 is\\nno text")
    if settings.ends == "bug":
        raise ValueError("ours")
    if settings.ends == "interrupt":
        raise KeyboardInterrupt
    if settings.ends == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    return settings.out


run_job(Job, main)
"""


@pytest.mark.parametrize(
    ("ends", "status", "printed"),
    [
        ("well", 0, "artifact: o"),
        ("fault", 2, "error: docs.parquet: row 3 is no text"),
        ("bug", 1, "Traceback (most recent call last):"),
        ("interrupt", 130, "stopped"),
        ("term", 143, ""),
    ],
)
def test_how_a_job_ends_is_its_exit_status(ends: str, status: int, printed: str) -> None:
    command = [sys.executable, "-c", JOB, "--out", "o", "--ends", ends]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    lines = (done.stdout + done.stderr).splitlines()
    assert (lines or [""])[0] == printed
    assert len(lines) <= 1 or ends == "bug"


def test_the_handler_of_sigterm_is_given_back() -> None:
    from raybert.settings import guarded

    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda: 7) == 7
    assert signal.getsignal(signal.SIGTERM) is before
