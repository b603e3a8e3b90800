"""Records when the real Temporal server says that schedules act: spec to times, for the engine's golden test.

    python -m schedules.record ADDRESS > ../node/engine/tests/schedule_times.json      (from tests/, against a real server)

Each case is a spec and windows of time. The server is asked for its stored form of the spec and for every matching time in each window,
at most LIMIT of them. Zones whose rules were changed lately are left out: zone data differs between releases. Specs
are written twice: as text for people, and encoded for the test.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from google.protobuf import json_format
from temporalio.api.schedule.v1.message_pb2 import ScheduleSpec

from harness.wire import Refusal, Wire

LIMIT = 60

ACTION = {"start_workflow": {"workflow_id": "w", "workflow_type": {"name": "T"}, "task_queue": {"name": "q"}}}

YEAR = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
# Clocks change: New York and Berlin in spring and autumn, Lord Howe (by half an hour), São Paulo (at midnight, in 2018).
NEW_YORK = [("2026-03-08T04:00:00Z", "2026-03-09T12:00:00Z"), ("2026-11-01T03:00:00Z", "2026-11-02T12:00:00Z")]
BERLIN = [("2026-03-28T22:00:00Z", "2026-03-30T06:00:00Z"), ("2026-10-24T22:00:00Z", "2026-10-26T06:00:00Z")]
LORD_HOWE = [("2026-04-04T12:00:00Z", "2026-04-05T12:00:00Z"), ("2026-10-03T12:00:00Z", "2026-10-04T12:00:00Z")]
SAO_PAULO = [("2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z"), ("2018-02-17T12:00:00Z", "2018-02-19T12:00:00Z")]
# In the middle of the hour that comes twice.
TWICE = [("2026-11-01T06:20:00Z", "2026-11-01T12:00:00Z"), ("2026-11-01T05:20:00Z", "2026-11-01T06:10:00Z")]


def cron(*texts: str, **more: Any) -> dict[str, Any]:
    return {"cron_string": list(texts), **more}


def cases() -> list[tuple[str, dict[str, Any], list[tuple[str, str]]]]:
    found: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = []

    def case(spec: dict[str, Any], *windows: tuple[str, str]) -> None:
        found.append((f"case-{len(found)}", spec, list(windows) or [YEAR]))

    for text in [
        "0 12 * * MON-FRI", "*/15 9-17 * * *", "0 0 29 2 *", "0 0 31 * *", "30 4 1,15 * 5", "0 0 * * 7", "0 0 * * 3-7",
        "0 0 * * 1-7/2", "5/20 */6 * jan-mar,Dece *", "0 0 1 1 * 2030-2040/3", "*/20 59 23 31 12 * 2026", "@hourly", "@daily",
        "@weekly", "@monthly", "@yearly", "@every 7h", "@every 1d/5h", "@every 90m/17m", "0 22 * * *  # at night", "0 0 30 2 *",
    ]:
        case(cron(text))
    for zone, windows in [("America/New_York", NEW_YORK), ("Europe/Berlin", BERLIN), ("Australia/Lord_Howe", LORD_HOWE),
                          ("America/Sao_Paulo", SAO_PAULO)]:
        for text in ["*/30 * * * *", "30 2 * * *", "30 1 * * *", "0 0 * * *", "15 0-3 * * *", "0 3 * * SUN", "59 59 1 * * * *",
                     "0 2/2 * * *", "*/10 0,1 * * *", "0 0 * * SUN", "0 0 * * SAT"]:
            case(cron(text, timezone_name=zone), *windows)
    for text in ["*/10 * * * *", "30 1 * * *", "0 1 * * *", "50 1 * * *", "0 2 * * *"]:
        case(cron(f"CRON_TZ=America/New_York {text}"), *TWICE)
    for zone in ["Asia/Kolkata", "Asia/Kathmandu", "Pacific/Apia", "EST5EDT", "Etc/GMT+5", "US/Pacific",
                 "Asia/Tehran", "America/Argentina/Buenos_Aires", "Antarctica/Troll", "Europe/Dublin", "Local"]:
        case({"calendar": [{"hour": "2", "minute": "30", "day_of_month": "*/9"}], "timezone_name": zone})
    case({"calendar": [{"hour": "9", "day_of_week": "MON,WED"}, {"hour": "17", "minute": "30", "month": "2-4"}]})
    case({"calendar": [{"second": "*/30", "minute": "5", "hour": "4", "day_of_month": "3"}]})
    case({"structured_calendar": [{"second": [{}], "minute": [{"start": 10, "end": 50, "step": 20}], "hour": [{"end": 23, "step": 8}],
                                   "day_of_month": [{"start": 28, "end": 31}], "month": [{"start": 1, "end": 12}],
                                   "day_of_week": [{"end": 6}], "comment": "late in the month"}]})
    case({"structured_calendar": [{}]})
    case({"interval": [{"interval": "86400s", "phase": "3661s"}, {"interval": "604800s"}]})
    case({"interval": [{"interval": "1.5s"}]}, ("2026-01-01T00:00:00.700Z", "2026-01-01T00:00:20Z"))
    case({"interval": [{"interval": "3600s"}], "calendar": [{"minute": "30", "hour": "*"}]},
         ("2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z"))
    case({"interval": [{"interval": "3600s"}], "exclude_calendar": [{"hour": "3-20", "minute": "*", "second": "*"}]},
         ("2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"))
    case({"interval": [{"interval": "3600s"}], "exclude_calendar": [{"hour": "0-8", "minute": "*"}, {"day_of_week": "0,6", "hour": "*"}],
          "timezone_name": "America/New_York"}, ("2026-03-06T00:00:00Z", "2026-03-10T00:00:00Z"))
    case({"interval": [{"interval": "60s"}], "start_time": "2026-01-01T00:02:00.5Z", "end_time": "2026-01-01T00:10:00Z"})
    case({"interval": [{"interval": "60s"}], "start_time": "2026-01-01T00:02:00Z", "end_time": "2026-01-01T00:09:59.999Z"})
    case(cron("0 0 1 1 *", start_time="2098-06-01T00:00:00Z"), ("2097-01-01T00:00:00Z", "2150-01-01T00:00:00Z"))
    for jitter in ["1s", "59s", "600s", "86400s", "0.9s", "0.0004s", "100000s"]:
        case({"interval": [{"interval": "3600s"}], "jitter": jitter}, ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
        case(cron("0 12 * * *", jitter=jitter, timezone_name="Europe/Berlin"), ("2026-03-20T00:00:00Z", "2026-04-20T00:00:00Z"))
    case({"interval": [{"interval": "60s"}], "jitter": "-5s"}, ("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"))
    return found


async def main(address: str) -> None:
    wire = Wire(address)
    namespace_id = (await wire.call("DescribeNamespace")).namespace_info.id
    written = []
    for schedule_id, spec, windows in cases():
        encoded = json_format.ParseDict(spec, ScheduleSpec())
        try:
            await wire.call("CreateSchedule", schedule_id=schedule_id, request_id=schedule_id,
                            schedule={"spec": spec, "action": ACTION, "state": {"paused": True}})
        except Refusal as refusal:
            raise SystemExit(f"{spec}: {refusal}") from None
        stored = (await wire.call("DescribeSchedule", schedule_id=schedule_id)).schedule.spec
        asked = []
        for start, end in windows:
            answer = await wire.call("ListScheduleMatchingTimes", schedule_id=schedule_id, start_time=start, end_time=end)
            times = [time.ToJsonString() for time in answer.start_time]
            asked.append({"from": start, "to": end, "times": times[:LIMIT]})
        await wire.call("DeleteSchedule", schedule_id=schedule_id)
        written.append({"schedule_id": schedule_id, "spec": spec, "encoded": encoded.SerializeToString(deterministic=True).hex(),
                        "stored": stored.SerializeToString(deterministic=True).hex(), "windows": asked})
    head = json.dumps({"namespace_id": namespace_id, "limit": LIMIT})[:-1]
    print(head + ', "cases": [\n' + ",\n".join(json.dumps(each) for each in written) + "\n]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
