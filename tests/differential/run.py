"""Runs scenarios against servers and compares what they answered, or records the real server's answers.

    python -m differential.run                     both servers, started here; compare
    python -m differential.run -k signal           only scenarios whose name or module holds "signal"
    python -m differential.run --golden            only Stanchion, compared with the recorded answers
    python -m differential.run --record            only the real server; writes golden/*.json and the tables made from them
    python -m differential.run --golden --update-known   and bring KNOWN.md up to date with the outcome
    python -m differential.run --stanchion ADDR    a Stanchion that runs already (likewise --temporal ADDR)

Never decides that a difference is all right: what may differ is removed by harness/normal.py and argued in ALLOWED.md.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from differential import known
from differential.env import Env
from differential.registry import Scenario, load
from harness import servers

GOLDEN = Path(__file__).parent / "golden"
SCENARIO_SECONDS_MAX = 90.0


async def play(scenario: Scenario, address: str) -> list[dict[str, Any]]:
    """One scenario's records from one server; a scenario that breaks ends its records with what broke it."""
    env = Env(scenario.name, address)
    try:
        async with asyncio.timeout(SCENARIO_SECONDS_MAX):
            await scenario.body(env)
    except Exception as error:  # noqa: BLE001  (whatever it is, it belongs into the comparison)
        where = traceback.extract_tb(error.__traceback__)
        lines = [f"{Path(each.filename).name}:{each.lineno}" for each in where if "differential" in each.filename]
        env.records.append({"broken": f"{type(error).__name__}: {error}", "at": lines})
    finally:
        await env.close()
    return env.records


async def play_all(chosen: list[Scenario], address: str, width: int) -> dict[str, list[dict[str, Any]]]:
    gate = asyncio.Semaphore(width)

    async def one(scenario: Scenario) -> tuple[str, list[dict[str, Any]]]:
        async with gate:
            began = time.monotonic()
            records = await play(scenario, address)
            broken = [each for each in records if "broken" in each]
            print(f"  {scenario.name} {time.monotonic() - began:.1f}s", *broken, flush=True)
            return scenario.name, records

    return dict(await asyncio.gather(*(one(each) for each in chosen)))


def is_broken(records: list[dict[str, Any]]) -> bool:
    return any("broken" in each for each in records)


def text(records: list[dict[str, Any]]) -> str:
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def difference(expected: list[dict[str, Any]], got: list[dict[str, Any]], context: int = 6) -> str:
    """A unified diff, empty when equal. Order of fields is not compared, order of lists is."""
    left = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
    right = json.dumps(got, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
    return "\n".join(difflib.unified_diff(left, right, "temporal", "stanchion", lineterm="", n=context))


def golden(name: str) -> list[dict[str, Any]]:
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{name} has no recorded answers: run `make golden`")
    return json.loads(path.read_text())["records"]


def write_golden(chosen: list[Scenario], results: dict[str, list[dict[str, Any]]]) -> int:
    GOLDEN.mkdir(exist_ok=True)
    broken = 0
    for each in chosen:
        if is_broken(results[each.name]):
            broken += 1
            continue
        body = {"scenario": each.name, "module": each.module, "says": each.says, "records": results[each.name]}
        (GOLDEN / f"{each.name}.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    from differential import tables

    tables.write()
    return broken


def choose(pattern: str) -> list[Scenario]:
    return [each for each in load().values() if not pattern or pattern in each.name or pattern in each.module]


def compare(chosen: list[Scenario], expected: dict[str, Any], got: dict[str, Any], context: int) -> set[str]:
    """Prints each difference; the names of the scenarios that differ."""
    differing = set()
    for each in chosen:
        diff = difference(expected[each.name], got[each.name], context)
        if is_broken(expected[each.name]):
            diff = diff or "the scenario broke on the real server"
        if diff:
            differing.add(each.name)
            print(f"\n=== {each.name} ({each.module}): {each.says}\n{diff}")
    print(f"\n{len(chosen) - len(differing)} equal, {len(differing)} different of {len(chosen)} scenarios")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", metavar="PART", help="only scenarios whose name or module holds this")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--update-known", action="store_true", help="write the outcome into KNOWN.md")
    parser.add_argument("--temporal", metavar="ADDR")
    parser.add_argument("--stanchion", metavar="ADDR")
    parser.add_argument("--width", type=int, default=8, help="scenarios at a time")
    parser.add_argument("--context", type=int, default=6, help="lines around a difference")
    parser.add_argument("--out", type=Path, help="also write what each server answered into this folder")
    options = parser.parse_args()
    # Activities and workflows here fail on purpose; the SDK's worker would say so at length.
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    chosen = choose(options.k)
    if not chosen:
        print(f"no scenario matches {options.k!r}")
        return 2
    started: list[servers.Server] = []
    try:
        expected: dict[str, Any] = {}
        if options.golden:
            expected = {each.name: golden(each.name) for each in chosen}
        else:
            address = options.temporal
            if not address:
                started.append(servers.start_temporal())
                address = started[-1].grpc
            print(f"temporal at {address}: {len(chosen)} scenarios")
            expected = asyncio.run(play_all(chosen, address, options.width))
            keep(options.out, "temporal", expected)
            if options.record:
                broken = write_golden(chosen, expected)
                print(f"{len(chosen) - broken} recorded, {broken} broken")
                return 1 if broken else 0
        address = options.stanchion
        if not address:
            started.append(servers.start_stanchion())
            address = started[-1].grpc
        print(f"stanchion at {address}: {len(chosen)} scenarios")
        got = asyncio.run(play_all(chosen, address, options.width))
        keep(options.out, "stanchion", got)
        differing = compare(chosen, expected, got, options.context)
        if options.update_known:
            known.update({each.name for each in chosen} - differing, differing)
        return 1 if differing else 0
    finally:
        for each in started:
            each.kill()


def keep(folder: Path | None, server: str, results: dict[str, list[dict[str, Any]]]) -> None:
    if folder:
        (folder / server).mkdir(parents=True, exist_ok=True)
        for name, records in results.items():
            (folder / server / f"{name}.json").write_text(text(records))


if __name__ == "__main__":
    sys.exit(main())
