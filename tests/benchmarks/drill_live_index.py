"""A live index for thousands of steps: changes, searches, kill -9, against brute force.

    python tests/benchmarks/drill_live_index.py --rounds 50 --steps 50 --seed 7

Every search, whichever process wrote what it finds, must agree with a dictionary and exact
arithmetic; its seed repeats a round.
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
    parser.add_argument("--rounds", type=int, default=50, help="of 5 histories; each has a seed")
    parser.add_argument("--steps", type=int, default=50, help="changes and searches of a history")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no round after them")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    module, started = machine(), time.perf_counter()
    kind = module.LiveMachine
    try:
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            print(f"seed {seed}", end=": ", flush=True)
            run_round(kind, seed, arguments.steps)
            seconds = time.perf_counter() - started
            print(
                f"so far {kind.rules_run} changes, searches and deaths, {kind.compared} answers "
                f"compared, {kind.deaths} kill -9, {kind.torn} torn records, {seconds:.0f} s",
                flush=True,
            )
            if seconds > arguments.seconds:
                break
    finally:
        module.Writer.stop()


def run_round(kind: Any, seed: int, steps: int) -> None:
    """Run five histories from one seed."""
    long = settings(
        max_examples=5,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seeded(seed)(kind), settings=long)


if __name__ == "__main__":
    main()
