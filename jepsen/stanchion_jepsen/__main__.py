"""`jepsen/run`: chooses workloads, runs each on a cluster of its own, prints the verdicts.

Exit codes: 0 all passed; 1 a violation was found; 2 the harness failed or a check had nothing to look at, so nothing was shown.
A violation outranks a failure of the harness.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import traceback
from pathlib import Path

from . import scene as scenes
from .processes import HarnessError
from .scene import Options, Verdict, write_verdict
from .workloads import batch, catchup, catchup_snapshot, failover, kill_all, kill_rounds, pause_rounds, together

WORKLOADS = {module.NAME: module for module in (kill_rounds, kill_all, failover, catchup, catchup_snapshot, pause_rounds, together, batch)}
QUICK = [kill_rounds.NAME, kill_all.NAME, failover.NAME, together.NAME]


def parse(arguments: list[str]) -> tuple[list[str], Options, Path]:
    parser = argparse.ArgumentParser(prog="jepsen/run", description="Chaos workloads against three real stanchion nodes.")
    parser.add_argument("workload", nargs="*", help=f"any of: {', '.join(WORKLOADS)} (all of them when none is named)")
    parser.add_argument("--quick", action="store_true", help="short forms, for CI; without a workload: kill-rounds, kill-all, failover, together")
    parser.add_argument("--control", action="store_true", help="no faults; the same load and checks")
    parser.add_argument("--server", choices=["stanchion", "temporal", "temporal-memory"], default="stanchion", help="try the harness on Temporal's dev server instead; in memory it must be found out")
    parser.add_argument("--binary", type=Path, help="the stanchion binary (default: STANCHION_BIN, else the debug build)")
    parser.add_argument("--groups", type=int, default=8, help="Raft groups besides the meta group")
    parser.add_argument("--seed", type=int, help="for the harness's own choices (default: from the clock, printed)")
    parser.add_argument("--runs", type=int, help="kill-rounds: workflow runs")
    parser.add_argument("--steps", type=int, help="kill-rounds: activities a run")
    parser.add_argument("--rounds", type=int, help="kill-rounds, kill-all: rounds of faults")
    parser.add_argument("--kills", type=int, help="failover, batch: kills of leaders")
    parser.add_argument("--megabytes", type=int, help="catchup: history written while a node is away")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help="a bound for the nodes' configuration")
    parser.add_argument("--keep-data", action="store_true", help="keep the nodes' data folders even if all is well")
    parser.add_argument("--out", type=Path, help="where output folders go (default: jepsen/out)")
    given = parser.parse_args(arguments)
    names = given.workload or (QUICK if given.quick else list(WORKLOADS))
    for name in names:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are: {', '.join(WORKLOADS)}")
    options = Options(
        quick=given.quick,
        control=given.control,
        server=given.server,
        groups=given.groups,
        seed=given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 31),
        runs=given.runs,
        steps=given.steps,
        rounds=given.rounds,
        kills=given.kills,
        megabytes=given.megabytes,
        limits={name: int(value) for name, _, value in (limit.partition("=") for limit in given.limit)},
        keep_data=given.keep_data,
    )
    if given.binary:
        options.binary = given.binary
    return names, options, given.out or Path(__file__).parent.parent / "out"


def show(verdict: Verdict, out: Path) -> None:
    print(f"\n== {verdict.workload} ==")
    for check in verdict.checks:
        mark = "VIOLATED" if not check.passed else "vacuous " if check.vacuous else "ok      "
        print(f"  {mark} {check.name} [{check.invariant}]: {check.counted} looked at, {len(check.violations)} violations{check.note and '; ' + check.note}")
        for line in check.violations[:5]:
            print(f"           - {line}")
        if len(check.violations) > 5:
            print(f"           - … and {len(check.violations) - 5} more, in verdict.json")
    for table in verdict.tables:
        print(table)
    for name, value in verdict.figures.items():
        if not isinstance(value, list):
            print(f"  {name}: {value}")
    outcome = "VIOLATION" if not verdict.passed else "NOTHING SHOWN" if verdict.vacuous else "PASSED"
    print(f"  {outcome}: {out}", flush=True)


async def carry_out(name: str, options: Options, base: Path) -> int:
    """One workload on a cluster of its own; its exit code."""
    out = base / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    module = WORKLOADS[name]
    try:
        async with scenes.open_scene(out, options, name, getattr(module, "LIMITS", {})) as scene:
            verdict = await module.run(scene)
            if not verdict.passed:
                options.keep_data = True
    except (HarnessError, AssertionError) as error:
        print(f"\n== {name} ==\n  HARNESS FAILURE: {error}\n  output: {out}", flush=True)
        return 2
    except Exception:  # noqa: BLE001 - whatever else goes wrong in the harness is its own failure, never a verdict
        traceback.print_exc()
        print(f"\n== {name} ==\n  HARNESS FAILURE (above)\n  output: {out}", flush=True)
        return 2
    write_verdict(out, verdict, options)
    show(verdict, out)
    return 1 if not verdict.passed else 2 if verdict.vacuous else 0


async def main() -> int:
    names, options, base = parse(sys.argv[1:])
    print(f"seed {options.seed}", flush=True)
    codes = []
    keep = options.keep_data
    for name in names:
        options.keep_data = keep
        codes.append(await carry_out(name, options, base))
    if len(names) > 1:
        print("\n" + "\n".join(f"{'ok' if code == 0 else 'VIOLATION' if code == 1 else 'HARNESS FAILURE':16} {name}" for name, code in zip(names, codes)))
    return 1 if 1 in codes else max(codes)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
