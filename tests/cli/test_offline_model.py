from __future__ import annotations

from pathlib import Path

import pytest

from raybert.cli import main, offline_model


def test_the_installed_model_is_the_original(
    minilm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["offline-model"]) == 0
    assert capsys.readouterr().out.strip() == str(minilm)


def test_other_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "wrong_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(offline_model, "PACKAGE", "wrong_model")
    assert main(["offline-model"]) == 2
    assert "SHA-256" in capsys.readouterr().err
