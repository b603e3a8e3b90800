"""Reading: history pages, long polls, the close-event filter, the reverse, descriptions of runs and queues."""

import asyncio
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env, complete_run, schedule
from differential.registry import scenario
from harness.wire import failure, payloads

CLOSE = "HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT"


def ids(page: Any) -> list[int]:
    return [each.event_id for each in page.history.events]


async def _seven_events(env: Env) -> None:
    await env.start()
    await env.step()
    await env.signal("a")
    await env.step()


@scenario
async def history_pages(env: Env) -> None:
    """A history of eight events in pages of three, and in one page; open runs end without a token."""
    await _seven_events(env)
    for size in (3, 100):
        token, pages = b"", []
        while True:
            page = await env.rpc(
                "GetWorkflowExecutionHistory",
                execution=env.execution(),
                maximum_page_size=size,
                next_page_token=token,
            )
            pages.append(ids(page))
            token = page.next_page_token
            if not token:
                break
        env.note(f"events by page of {size}", sorted(sum(pages, [])))
        env.note(f"more than one page at {size}", len(pages) > 1)


@scenario
async def history_reverse(env: Env) -> None:
    """The reverse history, in pages and whole."""
    await _seven_events(env)
    page = await env.rpc("GetWorkflowExecutionHistoryReverse", execution=env.execution(), maximum_page_size=100)
    found = ids(page)
    token = page.next_page_token
    while token:
        page = await env.rpc("GetWorkflowExecutionHistoryReverse", execution=env.execution(), next_page_token=token)
        found += ids(page)
        token = page.next_page_token
    env.note("order", found)
    token, found = b"", []
    while True:
        page = await env.rpc(
            "GetWorkflowExecutionHistoryReverse", execution=env.execution(), maximum_page_size=2, next_page_token=token
        )
        found += ids(page)
        token = page.next_page_token
        if not token:
            break
    env.note("order in pages of two", found)


@scenario
async def history_long_poll(env: Env) -> None:
    """A long poll returns what is there, then waits with a token for what comes, and ends with the run."""
    await env.start()
    page = await env.rpc("GetWorkflowExecutionHistory", execution=env.execution(), wait_new_event=True)
    env.note("there already", ids(page))
    env.note("token of an open run", bool(page.next_page_token))
    waiting = asyncio.ensure_future(
        env.rpc(
            "GetWorkflowExecutionHistory",
            timeout=TASK_SECONDS_MAX,
            execution=env.execution(),
            wait_new_event=True,
            next_page_token=page.next_page_token,
        )
    )
    await env.signal("s")
    page = await waiting
    env.note("came after a signal", ids(page))
    await env.step(complete_run())
    seen: list[int] = []
    while page.next_page_token:
        page = await env.rpc(
            "GetWorkflowExecutionHistory",
            timeout=TASK_SECONDS_MAX,
            execution=env.execution(),
            wait_new_event=True,
            next_page_token=page.next_page_token,
        )
        seen += ids(page)
    env.note("the rest", seen)


@scenario
async def history_close_event(env: Env) -> None:
    """The close-event filter on an open run, waited for, and on a closed run."""
    await env.start()
    page = await env.rpc(
        "GetWorkflowExecutionHistory", execution=env.execution(), history_event_filter_type=CLOSE
    )
    env.note("open run, not waiting", [ids(page), bool(page.next_page_token)])
    waiting = asyncio.ensure_future(env.until_closed())
    await env.step(complete_run("r"))
    env.note("waited for", (await waiting).event_id)
    await env.show(
        "closed run, not waiting",
        "GetWorkflowExecutionHistory",
        execution=env.execution(),
        history_event_filter_type=CLOSE,
    )
    await env.show(
        "closed run, waiting",
        "GetWorkflowExecutionHistory",
        execution=env.execution(),
        history_event_filter_type=CLOSE,
        wait_new_event=True,
    )


@scenario
async def history_follows_the_named_run(env: Env) -> None:
    """Without a run id the history is the current run's; a waiting close-event read stays with the run it began with."""
    from differential.env import command

    first = await env.start()
    # Named, because a read without a run id that arrives after the next step would wait for the second run.
    waiting = asyncio.ensure_future(env.until_closed(run_id=first))
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    event = await waiting
    env.note("closing event's type", event.event_type)
    await env.history("named", run_id=first)
    await env.history("current")


@scenario
async def describe_pending(env: Env) -> None:
    """Pending activities in each state and a pending workflow task, in one description."""
    await env.start()
    policy = {"initial_interval": "60s", "maximum_attempts": 3}
    await env.step(
        schedule(env, "a1-scheduled", task_queue={"name": env.name("nobody")}, schedule_to_close_timeout="60s"),
        schedule(env, "a2-started", heartbeat_timeout="30s"),
        schedule(env, "a3-backing-off", retry_policy=policy),
        schedule(env, "a4-cancel-requested"),
    )
    tasks = {each.activity_id: each for each in await env.poll_activities(3)}
    await env.rpc(
        "RespondActivityTaskFailed",
        task_token=tasks["a3-backing-off"].task_token,
        failure=failure("one", details=payloads("why")),
    )
    await env.rpc("RecordActivityTaskHeartbeat", task_token=tasks["a2-started"].task_token, details=payloads("hb"))
    await env.signal("go")
    from differential.scenarios.activities import cancel_activity

    await env.step(cancel_activity(8))
    await env.signal("pending task")
    response = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    pending = sorted(response.pending_activities, key=lambda each: each.activity_id)
    del response.pending_activities[:]
    response.pending_activities.extend(pending)
    env.response("describe", "DescribeWorkflowExecution", response)


@scenario
async def describe_task_queue_with_pollers(env: Env) -> None:
    """DescribeTaskQueue names the identities that polled."""
    await env.no_task("poll")
    response = await env.rpc("DescribeTaskQueue", task_queue={"name": env.tq})
    env.note("identities", [each.identity for each in response.pollers])
    await env.start()
    response = await env.rpc("DescribeTaskQueue", task_queue={"name": env.tq}, task_queue_type="TASK_QUEUE_TYPE_ACTIVITY")
    env.note("activity pollers", [each.identity for each in response.pollers])
