"""The search console in a real browser, where one is installed."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raybert.serving import (
    Desk,
    Directory,
    Embedder,
    GatewaySettings,
    IndexSettings,
    ModelSettings,
    Searcher,
    build_gateway,
    open_generations,
)

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def url(minilm: Path, index_uri: str, behind_uvicorn: Callable[[Any], str]) -> str:
    models = Directory(Embedder.open({"minilm": ModelSettings(path=str(minilm))}, threads=1))
    indexes = open_generations({"demo": IndexSettings(legs={"dense": index_uri})})
    searcher = Searcher(indexes, models)
    asyncio.run(searcher.pin())
    return behind_uvicorn(build_gateway(Desk(GatewaySettings(), models, searcher)))


def browsed(url: str, profile: Path) -> str:
    """Return the page as the browser shows it once its script has run."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_question_in_the_address_is_answered(url: str, tmp_path: Path) -> None:
    page = browsed(f"{url}/?q=capital%20of%20France", tmp_path)
    first = page[page.index('<ol class="hits">') :]
    assert re.search(r'class="id"[^>]*>paris<', first)
    assert "dense #1" in first
    assert "<mark>capital</mark>" in first
    assert re.search(r"encode dense \d+\.\d ms", page)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_two_configurations_side_by_side(url: str, tmp_path: Path) -> None:
    page = browsed(f"{url}/?q=whale&compare", tmp_path)
    assert page.count('<ol class="hits">') == 2
    assert "Second configuration" in page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_markup_in_a_question_stays_text(url: str, tmp_path: Path) -> None:
    page = browsed(f"{url}/?q=%3Cimg%20src=x%20onerror=document.title=1%3E", tmp_path)
    assert "<title>raybert search console</title>" in page
    assert "<img" not in page
