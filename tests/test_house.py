"""The house's own rules: floors are import-linter's, doors and habits are held here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "platform" / "raybert"
RAY_ROOMS = {"corpus", "training", "serving", "jobs"}
DOORS: dict[str, set[str]] = {
    "transformers": {"modules"},
    "faiss": {"index", "vectors"},
    "mlflow": {"tracking"},
    "ray": RAY_ROOMS,
    "ray.data": {"corpus"},
    "ray.train": {"training"},
    "ray.serve": {"serving"},
    "ray.job_submission": {"jobs"},
    "fastapi": {"serving"},
    "sentence_transformers": set(),
}
"""Foreign module -> the only rooms of the library that may import it."""
DEFINITIONS_MAY_IMPORT = {"ray", "ray.serve"}
"""Doors that stand open to the wiring files in serve/."""
READS_ENVIRONMENT = {"settings.py", "devices.py"}
LONGEST_FILE = 400


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module named by an import; `from ray import data` is `ray.data`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def doors_of(module: str) -> list[str]:
    return [door for door in DOORS if module == door or module.startswith(f"{door}.")]


def room(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0]


def tracked() -> list[Path]:
    """Return the files git knows or would add, for rules about everything we ship."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "Ray workers would import it"


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert not (ROOT / "tests" / "platform").exists()


def test_each_foreign_system_has_one_door() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}: only {sorted(DOORS[door]) or 'tests'} may"
        for path in sources("platform")
        for module in set(imports(ast.parse(path.read_text(encoding="utf-8"))))
        for door in doors_of(module)
        if room(path) not in DOORS[door]
    ]
    assert wrong == []


def test_the_oracle_is_imported_by_tests_alone() -> None:
    """In no text of ours either, that some other process could run."""
    found = [
        str(path.relative_to(ROOT))
        for path in sources("platform", "pipelines", "serve")
        if re.search(r"(import|from) sentence_transformers", path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_definitions_use_the_library_not_the_foreign_systems() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("pipelines", "serve")
        for module in set(imports(ast.parse(path.read_text(encoding="utf-8"))))
        for door in doors_of(module)
        if door not in DEFINITIONS_MAY_IMPORT or path.is_relative_to(ROOT / "pipelines")
    ]
    assert wrong == []


def test_the_environment_is_read_in_two_files() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("platform", "pipelines", "serve")
        if path.name not in READS_ENVIRONMENT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv", "putenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert found == []


def test_package_files_only_hand_names_on() -> None:
    logic = [
        f"{path.relative_to(ROOT)}: {getattr(node, 'name', '')}"
        for path in LIBRARY.rglob("__init__.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.name != "__getattr__"
    ]
    assert logic == []


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources("platform", "pipelines", "serve")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_nothing_is_left_for_later() -> None:
    pattern = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources("platform", "pipelines", "serve")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile("|".join(("/wo" + "rk/", "/tm" + "p/", "/roo" + "t/", r"\.\./sha" + "red")))
    text = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".html", ".sh", ".js", ""}
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        if path.suffix in text and path.name != "LICENSE"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if places.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("module", ["raybert", "raybert.cli"])
def test_importing_is_quick_and_leaves_torch_alone(module: str) -> None:
    script = f"""
import sys, time
start = time.process_time()  # what the import costs, whatever else the machine is doing
import {module}
seconds = time.process_time() - start
print(seconds, *sorted({{"torch", "ray", "mlflow", "transformers"}} & set(sys.modules)))
"""
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    seconds = min(float(run.stdout.split()[0]) for run in runs)
    assert [run.stdout.split()[1:] for run in runs] == [[], [], []]
    assert seconds < 0.5


def test_the_readme_names_only_commands_that_exist() -> None:
    from raybert.cli import commands

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]+)", readme))
    assert named - targets == set()
    assert {"setup", "demo", "demo-down", "test", "checks", "bench"} <= targets
    shell = "".join(re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"^raybert ([a-z-]+)", shell, re.MULTILINE)) - commands() == set()
    scripts = set(
        re.findall(r"\b((?:pipelines|serve|cluster|docs)/[\w/]+\.(?:py|yaml|md))", readme)
    )
    assert [name for name in sorted(scripts) if not (ROOT / name).exists()] == []
