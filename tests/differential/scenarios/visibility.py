"""Listing and counting runs: every operator over every kind of attribute, order, pages, groups, the older list calls.

Scenarios of many filters name a section of differential/filters.txt.
"""

import asyncio

from differential.env import Env, Refusal, command
from differential.registry import scenario
from differential.shelf import Shelf, attributes, refused
from harness.wire import payload


@scenario
async def list_by_status(env: Env) -> None:
    """ExecutionStatus by name, by number, by comparison, in lists, with spelling variants."""
    await Shelf.asked_by_status(env, "list_by_status")


@scenario
async def list_by_workflow_id(env: Env) -> None:
    """WorkflowId with each operator."""
    await Shelf.asked_by_status(env, "list_by_workflow_id")


@scenario
async def list_by_type_queue_and_run(env: Env) -> None:
    """WorkflowType, TaskQueue, RunId."""
    await Shelf.asked_by_status(env, "list_by_type_queue_and_run")


@scenario
async def list_by_times(env: Env) -> None:
    """StartTime, CloseTime and ExecutionTime: comparisons, ranges, formats."""
    await Shelf.asked_by_status(env, "list_by_times")


@scenario
async def list_by_numbers(env: Env) -> None:
    """HistoryLength, ExecutionDuration, HistorySizeBytes, StateTransitionCount: closed runs have them."""
    await Shelf.asked_by_status(env, "list_by_numbers")


@scenario
async def list_by_keyword(env: Env) -> None:
    """A custom keyword with each operator."""
    await Shelf.asked_by_value(env, "list_by_keyword")


@scenario
async def list_by_int(env: Env) -> None:
    """A custom integer with each operator."""
    await Shelf.asked_by_value(env, "list_by_int")


@scenario
async def list_by_double(env: Env) -> None:
    """A custom double with each operator."""
    await Shelf.asked_by_value(env, "list_by_double")


@scenario
async def list_by_bool(env: Env) -> None:
    """A custom truth value with each operator."""
    await Shelf.asked_by_value(env, "list_by_bool")


@scenario
async def list_by_datetime(env: Env) -> None:
    """A custom point in time with each operator."""
    await Shelf.asked_by_value(env, "list_by_datetime")


@scenario
async def list_by_text(env: Env) -> None:
    """A custom text: words are matched, not the whole."""
    await Shelf.asked_by_value(env, "list_by_text")


@scenario
async def list_by_keyword_list(env: Env) -> None:
    """A custom list of keywords: a condition holds when an element meets it."""
    await Shelf.asked_by_value(env, "list_by_keyword_list")


@scenario
async def list_with_logic(env: Env) -> None:
    """AND, OR, NOT, parentheses and which binds tighter; spelling of keywords; blanks."""
    await Shelf.asked_by_value(env, "list_with_logic")


@scenario
async def list_order_by_is_refused(env: Env) -> None:
    """ORDER BY over an attribute that could be sorted: the real server's standard store takes no order but its own."""
    await Shelf.asked_by_value(env, "list_order_by_is_refused")


@scenario
async def list_orders_that_are_wrong(env: Env) -> None:
    """ORDER BY over what cannot be sorted or does not exist."""
    await Shelf.asked_by_value(env, "list_orders_that_are_wrong")


@scenario
async def list_order_of_closed_runs(env: Env) -> None:
    """The default order: open runs first by start, then closed ones by their end."""
    shelf = await Shelf.made(env, custom=False)
    for name in ("a", "b", "c"):
        await shelf.start(name)
    for name in ("b", "a"):
        await env.rpc("TerminateWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": name})
        await asyncio.sleep(0.01)
    await shelf.start("d")
    await shelf.settle(4, open=2)
    await shelf.ask("", "ExecutionStatus = 'Terminated'", "ExecutionStatus = 'Running'", "CloseTime IS NOT NULL")


@scenario
async def list_in_pages(env: Env) -> None:
    """Pages of two over seven runs, with and without a filter; a run that is written meanwhile; odd page sizes."""
    shelf = await Shelf.made(env, custom=False)
    for number in range(7):
        await shelf.start(f"p{number}")
    await shelf.settle(7, open=7)
    for query in ("", "WorkflowType = 'Alpha'"):
        token, pages = b"", []
        while True:
            page = await env.rpc(
                "ListWorkflowExecutions", namespace=shelf.namespace, page_size=2, query=query, next_page_token=token
            )
            pages.append([each.execution.workflow_id for each in page.executions])
            token = page.next_page_token
            if not token:
                break
            if len(pages) == 2 and query:
                await shelf.start("newest")
                await shelf.settle(8, open=8)
        env.note(f"pages of {query!r}", pages)
    for size in (0, 8, 1000, 1001, -1):
        page = await env.show(f"page size {size}", "ListWorkflowExecutions", namespace=shelf.namespace, page_size=size, query="WorkflowId = 'p1'")
    page = await env.rpc("ListWorkflowExecutions", namespace=shelf.namespace, page_size=8)
    env.note("token behind a page that is exactly full", bool(page.next_page_token))


@scenario
async def list_shows_everything(env: Env) -> None:
    """What an entry of the list says of a run: one closed with memo and attributes, one open, one child, one that was delayed."""
    shelf = await Shelf.made(env)
    await shelf.start(
        "closed",
        memo={"fields": {"m": payload({"a": 1})}},
        search_attributes=attributes(K="k", T="some text", I=1, D=0.5, B=True, W="2020-01-01T00:00:00Z", L=["a", "b"]),
        user_metadata={"summary": payload("sum")},
    )
    await shelf.end("completed", "closed")
    await shelf.start("parent")
    child_queue = {"name": env.name("child-tq")}
    await shelf.step(
        command("START_CHILD_WORKFLOW_EXECUTION", workflow_id="child", workflow_type={"name": "Beta"}, task_queue=child_queue)
    )
    await shelf.start("delayed", workflow_start_delay="3600s", queue=env.name("delayed-tq"))
    await shelf.settle(4, open=3)
    for name in ("closed", "parent", "child", "delayed"):
        await env.show(name, "ListWorkflowExecutions", namespace=shelf.namespace, query=f"WorkflowId = '{name}'")
    await shelf.ask(
        "ParentWorkflowId = 'parent'",
        "ParentWorkflowId IS NULL",
        "ParentWorkflowId IS NOT NULL",
        "RootWorkflowId = 'parent'",
        "RootWorkflowId != 'parent'",
        "ParentRunId = '{run parent}'",
        "RootRunId = '{run parent}'",
    )


@scenario
async def list_follows_changes(env: Env) -> None:
    """The list after a run upserts attributes and memo, closes, and is deleted."""
    shelf = await Shelf.made(env)
    await shelf.start("run", search_attributes=attributes(K="before", I=1), memo={"fields": {"m": payload(1)}})
    await shelf.settle(1, open=1)
    await shelf.step(
        command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes=attributes(K="after", B=True)),
        command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {"m2": payload(2)}}),
    )

    await shelf.count("K = 'after'", 1)
    await shelf.ask("K = 'before'", "K = 'after' AND I = 1 AND B = true")
    await env.show("changed", "ListWorkflowExecutions", namespace=shelf.namespace)
    await env.rpc("SignalWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": "run"}, signal_name="s")
    await shelf.step(command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes={"indexed_fields": {"K": {"metadata": {"encoding": b"binary/null"}}}}))
    await shelf.count("K IS NULL", 1)
    await shelf.ask("", "K IS NULL AND I = 1")
    await shelf.start("other", queue=env.name("other-tq"))
    await env.rpc("TerminateWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": "other"})
    await shelf.count("ExecutionStatus = 'Terminated'", 1)
    await env.rpc("DeleteWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": "run"})
    await shelf.count("", 1)
    await shelf.ask("")


@scenario
async def count_in_groups(env: Env) -> None:
    """CountWorkflowExecutions with GROUP BY: by status; by others, which is refused or not; with conditions."""
    shelf = await Shelf.made(env)
    await shelf.statuses()

    async def count(query: str) -> None:
        filled = shelf.filled(query)
        try:
            answer = await env.rpc("CountWorkflowExecutions", namespace=shelf.namespace, query=filled)
        except Refusal as error:
            env.note(query, refused(error))
            return
        groups = [[each.group_values[0].data.decode(), each.count] for each in answer.groups]
        types = sorted({each.group_values[0].metadata["type"].decode() for each in answer.groups})
        env.note(query, [answer.count, sorted(groups), types])

    for query in (
        "",
        "GROUP BY ExecutionStatus",
        "ExecutionStatus != 'Running' GROUP BY ExecutionStatus",
        "WorkflowType = 'Alpha' GROUP BY ExecutionStatus",
        "WorkflowType = 'Nobody' GROUP BY ExecutionStatus",
        "group by ExecutionStatus",
        "GROUP BY WorkflowType",
        "GROUP BY TaskQueue",
        "GROUP BY K",
        "GROUP BY I",
        "GROUP BY B",
        "GROUP BY L",
        "GROUP BY StartTime",
        "GROUP BY Nope",
        "GROUP BY ExecutionStatus, WorkflowType",
        "ExecutionStatus = 'Nonsense' GROUP BY ExecutionStatus",
    ):
        await count(query)
    listed = await env.rpc("ListWorkflowExecutions", namespace=shelf.namespace, query="GROUP BY ExecutionStatus")
    env.note("a list with a group", len(listed.executions))


@scenario
async def filters_that_are_wrong(env: Env) -> None:
    """Filters that the server refuses, each with its words; for the list, and for the count where it says otherwise."""
    shelf = await Shelf.made(env)
    await shelf.start("one", search_attributes=attributes(K="k", I=1))
    await shelf.settle(1, open=1)
    await shelf.ask(
        "nonsense",
        "WorkflowId",
        "WorkflowId =",
        "= 'x'",
        "WorkflowId = 'x",
        "WorkflowId = x",
        "WorkflowId = 'x' AND",
        "WorkflowId = 'x' WorkflowId = 'y'",
        "(WorkflowId = 'x'",
        "WorkflowId = 'x')",
        "Nope = 'x'",
        "Nope IS NULL",
        "Nope = 1 AND WorkflowId = 'x'",
        "'x' = WorkflowId",
        "WorkflowId = RunId",
        "WorkflowId = 'x' XOR RunId = 'y'",
        "WorkflowId IN 'x'",
        "WorkflowId IN ()",
        "WorkflowId IN ('x'",
        "WorkflowId BETWEEN 'x'",
        "WorkflowId BETWEEN 'x' AND",
        "WorkflowId IS 'x'",
        "WorkflowId IS TRUE",
        "WorkflowId LIKE '%x%'",
        "WorkflowId NOT LIKE '%x%'",
        "WorkflowId REGEXP 'x'",
        "WorkflowId STARTS_WITH 5",
        "WorkflowId STARTS_WITH WorkflowType",
        "I + 1 = 2",
        "I = 1 + 0",
        "LENGTH(K) = 1",
        "K = CONCAT('a', 'b')",
        "EXISTS (SELECT 1)",
        "SELECT * FROM executions",
        "WorkflowId = 'x'; DROP TABLE executions",
        "WorkflowId = 'x' -- comment",
        "WorkflowId = 'x' LIMIT 1",
        "WorkflowId = 'x' GROUP BY WorkflowId HAVING 1",
        "WorkflowId = NULL",
        "WorkflowId != NULL",
        "I = 'x'",
        "B = 'x'",
        "W = 'x'",
        "StartTime = 'x'",
        "CASE WHEN I = 1 THEN true END",
        "1 = 1",
        "true",
        "K = -'x'",
        "I = --1",
        "NOT",
        "AND",
        "ORDER BY",
        "GROUP BY",
        "TemporalNamespaceDivision = 'x'",
        "TemporalNamespaceDivision IS NULL",
        "K = 'unicode: üñí'",
        "TemporalScheduledById = 'x'",
        "TemporalSchedulePaused = true",
        "BuildIds = 'x'",
        "BuildIds IN ('x', 'y')",
        "TemporalChangeVersion = 'x'",
        "TemporalPauseInfo = 'x'",
        "BatcherUser = 'x'",
        "VisibilityTime > 0",
        "NamespaceId = 'x'",
        "Memo = 'x'",
        "Encoding = 'x'",
    )


@scenario
async def list_with_double_equals(env: Env) -> None:
    """Two equal signs are no operator."""
    shelf = await Shelf.made(env, custom=False)
    await shelf.ask("WorkflowId == 'x'", "WorkflowType == 'x' AND WorkflowId = 'y'")


@scenario
async def list_open_and_closed(env: Env) -> None:
    """ListOpenWorkflowExecutions and ListClosedWorkflowExecutions with each of their filters."""
    shelf = await Shelf.made(env, custom=False)
    await shelf.statuses()
    always = {"earliest_time": "2000-01-01T00:00:00Z", "latest_time": "2100-01-01T00:00:00Z"}

    async def ids(label: str, method: str, **fields: object) -> None:
        try:
            answer = await env.rpc(method, namespace=shelf.namespace, **fields)
        except Refusal as error:
            env.refused(f"{method}: {label}", error)
            return
        env.note(f"{method}: {label}", [each.execution.workflow_id for each in answer.executions])

    for method in ("ListOpenWorkflowExecutions", "ListClosedWorkflowExecutions"):
        await ids("all", method, start_time_filter=always)
        await ids("no time", method)
        await ids("by id", method, start_time_filter=always, execution_filter={"workflow_id": "open-1"})
        await ids("by id, closed", method, start_time_filter=always, execution_filter={"workflow_id": "failed"})
        await ids("by type", method, start_time_filter=always, type_filter={"name": "Gamma"})
        await ids("by type Beta", method, start_time_filter=always, type_filter={"name": "Beta"})
        await ids("early", method, start_time_filter={**always, "latest_time": shelf.times["early"]})
        await ids("late", method, start_time_filter={**always, "earliest_time": shelf.times["middle"]})
        await ids("backwards", method, start_time_filter={"earliest_time": always["latest_time"], "latest_time": always["earliest_time"]})
        await ids("only the earliest", method, start_time_filter={"earliest_time": always["earliest_time"]})
        await ids("page of one", method, start_time_filter=always, maximum_page_size=1)
        await ids("page size below zero", method, start_time_filter=always, maximum_page_size=-1)
        await ids("page size of 1001", method, start_time_filter=always, maximum_page_size=1001)
    for status in ("COMPLETED", "FAILED", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW", "TIMED_OUT", "RUNNING", "UNSPECIFIED"):
        await ids(
            f"status {status}",
            "ListClosedWorkflowExecutions",
            start_time_filter=always,
            status_filter={"status": f"WORKFLOW_EXECUTION_STATUS_{status}"},
        )


@scenario
async def scan_and_archive(env: Env) -> None:
    """ScanWorkflowExecutions with filters and pages; ListArchivedWorkflowExecutions where nothing is archived."""
    shelf = await Shelf.made(env, custom=False)
    for number in range(5):
        await shelf.start(f"s{number}")
    await shelf.settle(5, open=5)
    seen, token = [], b""
    for _ in range(10):
        page = await env.rpc("ScanWorkflowExecutions", namespace=shelf.namespace, page_size=2, next_page_token=token)
        seen += [each.execution.workflow_id for each in page.executions]
        token = page.next_page_token
        if not token:
            break
    env.note("all pages", seen)
    await env.show("scan with a filter", "ScanWorkflowExecutions", namespace=shelf.namespace, query="WorkflowId = 's3'")
    await env.show("scan with a bad filter", "ScanWorkflowExecutions", namespace=shelf.namespace, query="Nope = 1")
    await env.show("archived", "ListArchivedWorkflowExecutions", namespace=shelf.namespace)


@scenario
async def lists_are_validated(env: Env) -> None:
    """List, count and scan without a namespace, with an unknown one, with a query that is far too long."""
    long = " OR ".join(f"WorkflowId = 'w{number}'" for number in range(300))
    for method in ("ListWorkflowExecutions", "CountWorkflowExecutions", "ScanWorkflowExecutions"):
        await env.show(f"{method}: no namespace", method, namespace="")
        await env.show(f"{method}: unknown namespace", method, namespace="nowhere")
        await env.show(f"{method}: three hundred conditions", method, query=long)


@scenario
async def list_of_a_chain(env: Env) -> None:
    """The runs of one workflow id: continued as new, reset, started again."""
    shelf = await Shelf.made(env, custom=False)
    await shelf.start("chain")
    await shelf.end("continued", "chain")
    await shelf.step(command("COMPLETE_WORKFLOW_EXECUTION"))
    first = shelf.runs["chain"]
    await shelf.start("chain", kind="Second")
    await shelf.settle(3, open=1)
    await env.show("all", "ListWorkflowExecutions", namespace=shelf.namespace, query="WorkflowId = 'chain'")
    env.note("first is one of them", bool(first))
    await shelf.ask("WorkflowId = 'chain' AND ExecutionStatus = 'ContinuedAsNew'", "WorkflowType = 'Second'")
    count = await env.rpc("CountWorkflowExecutions", namespace=shelf.namespace, query="WorkflowId = 'chain'")
    env.note("count", count.count)


@scenario
async def list_waits_for_delayed_and_cron(env: Env) -> None:
    """ExecutionTime of a delayed run and of a cron run lies after StartTime."""
    shelf = await Shelf.made(env, custom=False)
    await shelf.start("plain")
    await shelf.start("delayed", workflow_start_delay="3600s")
    await shelf.start("cron", cron_schedule="@every 2h")
    shelf.mark("now")
    await shelf.settle(3, open=3)
    await shelf.ask("ExecutionTime > '{now}'", "ExecutionTime < '{now}'", "StartTime < '{now}'")


@scenario
async def list_with_spelled_values(env: Env) -> None:
    """Workflow ids with quotes, blanks, per cent signs, letters of other scripts, found by their exact text."""
    shelf = await Shelf.made(env, custom=False)
    for name in ("it's", 'a "b"', "50% off", "snake_case", "snakeXcase", "grüße 世界", "back\\slash", "semi;colon", "a  b"):
        await shelf.start(name)
    await shelf.settle(9, open=9)
    await shelf.ask(
        "WorkflowId = 'it''s'",
        "WorkflowId = \"it's\"",
        "WorkflowId = '50% off'",
        "WorkflowId STARTS_WITH '50%'",
        "WorkflowId = 'snake_case'",
        "WorkflowId STARTS_WITH 'snake_'",
        "WorkflowId = 'grüße 世界'",
        "WorkflowId STARTS_WITH 'grü'",
        "WorkflowId = 'semi;colon'",
        "WorkflowId = 'a  b'",
        "WorkflowId = 'a b'",
        "WorkflowId IN ('it''s', '50% off')",
    )
