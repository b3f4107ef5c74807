"""Every recipe at small scale: its command, few steps, and what it measures before and after.

    python tests/benchmarks/run_recipes.py --model MINILM --masked-lm SPLADE --out FOLDER

Rows of the bundled manuals' first pages; a table of Markdown. Recipes that begin with another's
model come after it. A recipe that needs your own rows (multilingual, clip) is run where `--also
NAME=FOLDER` says where its files of rows lie, for clip with the model folder `clip-start`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from raybert.artifacts import read_manifest

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "pipelines" / "recipes"
AFTER = {"domain_adaptation": "tsdae"}
"""Recipe to the one whose model it begins with."""
TAUGHT = ("distill_margin", "distill_kl", "splade_distilled")
"""Recipes whose teacher is cross_binary's model."""
OWN = ("multilingual", "clip")
"""Recipes of rows that are not bundled."""


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="dense model folder")
    parser.add_argument("--masked-lm", required=True, help="masked language model folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="recipes to run")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER")
    return parser.parse_args()


def ordered() -> list[str]:
    """Return the recipes' names, each behind what it needs."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    later = [name for name in names if name in AFTER or name in TAUGHT]
    return [name for name in names if name not in later and name not in OWN] + later + list(OWN)


def run(script: str, *arguments: str, cwd: Path) -> str:
    """Run a job in the scratch folder; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipelines" / script), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "platform")},
    )
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)}\n{done.stderr}{done.stdout}")
    return done.stdout


def prepare(options: argparse.Namespace) -> None:
    """Lay out the rows and the models that recipes begin with."""
    cwd, made = options.out, options.out / "artifacts" / "recipes"
    documents = pq.read_table(ROOT / "data" / "demo" / "docs.parquet").slice(0, options.documents)
    cwd.mkdir(parents=True, exist_ok=True)
    pq.write_table(documents, cwd / "documents.parquet")
    run("recipes/data.py", "--documents", str(cwd / "documents.parquet"), cwd=cwd)
    for kind in ("static", "inference_free", "csr"):
        base = options.masked_lm if kind == "inference_free" else options.model
        run("recipes/models.py", "--kind", kind, "--model", base, cwd=cwd)
    for name, folder in {"masked-lm": options.masked_lm}.items():
        if not (made / name).exists():
            (made / name).symlink_to(folder, target_is_directory=True)
    for each in options.also:
        for path in Path(each.partition("=")[2]).iterdir():
            if not (made / path.name).exists():
                (made / path.name).symlink_to(path)


def cooked(name: str, options: argparse.Namespace) -> str:
    """Run a recipe; returns its line of the table."""
    recipe = RECIPES / f"{name}.yaml"
    script = recipe.read_text(encoding="utf-8").splitlines()[0].split()[2].split("/")[-1]
    bundled = "model: all-MiniLM-L6-v2" in recipe.read_text(encoding="utf-8")
    began = time.monotonic()
    run(
        script,
        *("--config", str(recipe), "--tracking-uri", "none", "--scale.device", "cpu"),
        *("--schedule.max-steps", str(options.steps), "--scale.threads", str(options.threads)),
        *("--max-seq-length", str(options.max_seq_length)),
        *(("--model", options.model) if bundled else ()),
        *(("--teacher", options.model) if name in ("distill_layers", "multilingual") else ()),
        cwd=options.out,
    )
    found = read_manifest(str(options.out / "artifacts" / "recipes" / name), kind="model")
    before, after = found.details["before"], found.details["metrics"]
    wanted = ("cosine_ndcg@10", "dot_ndcg@10", "spearman_cosine", "spearman", "cosine_ap")
    metric = next((each for each in (*wanted, "mean_accuracy") if each in after), next(iter(after)))
    return (
        f"| `{name}.yaml` | {found.details['loss']} | {found.details['steps']} | {metric} | "
        f"{before[metric]:.4f} | {after[metric]:.4f} | {time.monotonic() - began:.0f} s |"
    )


def main() -> None:
    """Run the recipes and print the table."""
    options = parsed()
    options.out = options.out.absolute()
    prepare(options)
    own = {each.partition("=")[0] for each in options.also}
    print(
        "| recipe | loss | steps | metric | before | after | took |\n|---|---|---|---|---|---|---|"
    )
    for name in ordered():
        if (not options.only or name in options.only) and (name not in OWN or name in own):
            print(cooked(name, options), flush=True)


if __name__ == "__main__":
    main()
