"""A live index for thousands of steps: changes, searches, kill -9, against brute force.

    python tests/benchmarks/drill_live_index.py --runs 100 --steps 50 --seed 7

Every search, whichever process wrote what it finds, must agree with a dictionary and exact
arithmetic; the seed repeats a run.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test


def machine() -> Any:
    """Return the machine of the test beside us."""
    path = Path(__file__).parents[1] / "index" / "test_live_machine.py"
    spec = importlib.util.spec_from_file_location("test_live_machine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50, help="changes and searches of a run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    module, started = machine(), time.perf_counter()
    long = settings(
        max_examples=arguments.runs,
        stateful_step_count=arguments.steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    kind = module.LiveMachine
    try:
        run_state_machine_as_test(seeded(arguments.seed)(kind), settings=long)
    finally:
        module.Writer.stop()
        print(
            f"{kind.rules_run} changes, searches and deaths, {kind.compared} answers compared; "
            f"{kind.deaths} kill -9, {kind.torn} torn records; "
            f"{time.perf_counter() - started:.0f} s"
        )


if __name__ == "__main__":
    main()
