"""The life of a run: start delay, deletion, options, links, priority, completion callbacks, user metadata."""

import asyncio

from differential.env import TASK_SECONDS_MAX, UNKNOWN_RUN, Case, Env, Refusal, command, complete_run, link_to_another_run, schedule, timer
from differential.registry import scenario
from harness.wire import failure, payload, payloads


async def until_deleted(env: Env, workflow_id: str | None = None, run_id: str | None = None) -> None:
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while True:
            try:
                await env.rpc("DescribeWorkflowExecution", execution=env.execution(workflow_id, run_id))
            except Refusal as error:
                if error.code != "NOT_FOUND":
                    raise
                return
            await asyncio.sleep(0.05)


@scenario
async def delay_and_cancel(env: Env) -> None:
    """A cancel request to a run whose start is delayed."""
    await env.start(workflow_start_delay="2s")
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await env.history("while delayed")
    await env.step(command("CANCEL_WORKFLOW_EXECUTION"))
    await env.history("cancelled run")


@scenario
async def delay_and_terminate(env: Env) -> None:
    """A run terminated while its start is delayed."""
    await env.start(workflow_start_delay="3600s")
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await env.history("terminated run")


@scenario
async def delay_by_signal_with_start(env: Env) -> None:
    """SignalWithStart with a delay; and a second one that finds the delayed run."""
    fields = env.start_fields(workflow_start_delay="2s", signal_name="s", signal_input=payloads(1))
    await env.show("first", "SignalWithStartWorkflowExecution", **fields)
    await env.history("while delayed")
    await env.show("second", "SignalWithStartWorkflowExecution", **{**fields, "request_id": "other"})
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def delay_and_time_outs(env: Env) -> None:
    """A run time-out shorter than the delay, and how a delay counts into the expiration of a run."""
    await env.start(workflow_start_delay="2s", workflow_run_timeout="1s", workflow_execution_timeout="1s")
    await env.history("while delayed")
    await env.until_closed()
    await env.history("timed out")


@scenario
async def delay_is_not_carried_on(env: Env) -> None:
    """Continue-as-new and retries of a delayed run start without the delay."""
    await env.start(workflow_start_delay="1s", retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.poll()
    await env.history("third run")


@scenario
async def delay_and_query(env: Env) -> None:
    """A query to a run whose start is delayed."""
    await env.start(workflow_start_delay="3600s")
    await env.show("query", "QueryWorkflow", timeout=5.0, execution=env.execution(), query={"query_type": "q"})
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())


@scenario
async def delete_closed_run(env: Env) -> None:
    """A closed run is deleted: nothing of it is found any more, and its id is free."""
    run = await env.start(request_id="r1")
    await env.step(complete_run("r"))
    await env.show("delete", "DeleteWorkflowExecution", workflow_execution=env.execution(run_id=run))
    await until_deleted(env, run_id=run)
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("describe by run id", "DescribeWorkflowExecution", execution=env.execution(run_id=run))
    await env.show("history", "GetWorkflowExecutionHistory", execution=env.execution(run_id=run))
    await env.show("signal", "SignalWorkflowExecution", workflow_execution=env.execution(), signal_name="s")
    await env.show("terminate", "TerminateWorkflowExecution", workflow_execution=env.execution())
    await env.show("query", "QueryWorkflow", timeout=5.0, execution=env.execution(), query={"query_type": "q"})
    await env.show("delete again", "DeleteWorkflowExecution", workflow_execution=env.execution(run_id=run))
    again = await env.show(
        "start again",
        "StartWorkflowExecution",
        **env.start_fields(request_id="r1", workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE"),
    )
    env.note("a new run", bool(again) and again.run_id != run)


@scenario
async def delete_open_run(env: Env) -> None:
    """An open run is deleted, by workflow id: its worker's answer finds nothing."""
    await env.start()
    task = await env.poll()
    await env.show("delete", "DeleteWorkflowExecution", workflow_execution=env.execution())
    await until_deleted(env)
    await env.show("late completion", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[complete_run()])
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def delete_one_run_of_a_chain(env: Env) -> None:
    """Deleting an earlier run leaves the current one; deleting the current one leaves the earlier."""
    first = await env.start()
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    # No task is left with a worker: deletions may take longer than its time-out.
    second = (await env.step()).workflow_execution.run_id
    await env.rpc("DeleteWorkflowExecution", workflow_execution=env.execution(run_id=first))
    await until_deleted(env, run_id=first)
    await env.history("second run", run_id=second)
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    third = await env.start()
    await env.rpc("DeleteWorkflowExecution", workflow_execution=env.execution(run_id=third))
    await until_deleted(env, run_id=third)
    await env.show("describe the second", "DescribeWorkflowExecution", execution=env.execution(run_id=second))
    await env.show("describe by id", "DescribeWorkflowExecution", execution=env.execution())


async def misnamed(env: Env, case: Case) -> None:
    """Everything that is wrong with the names of a run."""
    await case("no execution", workflow_execution=None)
    await case("no workflow id", workflow_execution={"run_id": UNKNOWN_RUN})
    await case("run id is no UUID", workflow_execution=env.execution(run_id="nope"))
    await case("unknown workflow", workflow_execution=env.execution(env.name("nobody")))
    await case("unknown run", workflow_execution=env.execution(run_id=UNKNOWN_RUN))
    await case("unknown namespace", namespace="nowhere")


@scenario
async def delete_is_validated(env: Env) -> None:
    """DeleteWorkflowExecution with one thing wrong at a time."""
    await env.start()

    async def case(label: str, **fields: object) -> None:
        await env.show(label, "DeleteWorkflowExecution", **{"workflow_execution": env.execution(), **fields})

    await misnamed(env, case)
    await env.show("it is still there", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def delete_a_child(env: Env) -> None:
    """A running child is deleted: what its parent hears."""
    from differential.scenarios.children import with_child

    await with_child(env)
    await env.step()
    await env.rpc("DeleteWorkflowExecution", workflow_execution=env.execution(env.name("child")))
    await until_deleted(env, env.name("child"))
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def options_update(env: Env) -> None:
    """UpdateWorkflowExecutionOptions: a versioning override and a priority set and cleared, as answered, recorded, described."""
    await env.start(priority={"priority_key": 4})
    await env.step()
    override = {"pinned": {"behavior": "PINNED_OVERRIDE_BEHAVIOR_PINNED", "version": {"deployment_name": "d", "build_id": "b"}}}

    async def update(label: str, paths: str, **options: object) -> None:
        await env.show(
            label,
            "UpdateWorkflowExecutionOptions",
            workflow_execution=env.execution(),
            workflow_execution_options=options,
            update_mask=paths,
        )

    await update("priority", "priority", priority={"priority_key": 2})
    await update("same priority", "priority", priority={"priority_key": 2})
    await update("priority's key alone", "priority.priorityKey", priority={"priority_key": 3})
    await update("fairness", "priority.fairnessKey,priority.fairnessWeight", priority={"fairness_key": "f", "fairness_weight": 2})
    await update("no priority", "priority")
    await update("automatic upgrade", "versioningOverride", versioning_override={"auto_upgrade": True})
    await update("no override", "versioningOverride")
    await update("pinned to a version that nobody has", "versioningOverride", versioning_override=override)
    await update("nothing", "")
    await env.history("after the updates")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def versioning_overrides(env: Env) -> None:
    """An override to upgrade automatically, at the start and later: recorded, described, listed; every other one is refused."""
    pinned = {"behavior": "PINNED_OVERRIDE_BEHAVIOR_PINNED"}
    version = {"deployment_name": "d", "build_id": "b"}
    wrong: dict[str, dict[str, object]] = {
        "nothing": {},
        "not upgraded": {"auto_upgrade": False},
        "pinned to a version that nobody has": {"pinned": {**pinned, "version": version}},
        "pinned without saying so": {"pinned": {"version": version}},
        "pinned without anything": {"pinned": {}},
        "pinned in the older form": {"behavior": "VERSIONING_BEHAVIOR_PINNED", "pinned_version": "d.b"},
        "once, to no version": {"one_time": {}},
    }
    for label, override in wrong.items():
        await env.show(f"start: {label}", "StartWorkflowExecution", **env.start_fields(versioning_override=override))
    await env.start(versioning_override={"auto_upgrade": True})
    await env.step()
    await env.show("described", "DescribeWorkflowExecution", execution=env.execution())

    async def update(label: str, override: object, paths: str = "versioningOverride") -> None:
        await env.show(
            label,
            "UpdateWorkflowExecutionOptions",
            workflow_execution=env.execution(),
            workflow_execution_options={"versioning_override": override},
            update_mask=paths,
        )

    for label, override in wrong.items():
        await update(f"update: {label}", override)
    await update("a part of it", {"auto_upgrade": True}, "versioningOverride.behavior")
    await update("the same", {"auto_upgrade": True})
    await update("none", None)
    await env.history("run")
    await env.show("described without", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def options_update_is_validated(env: Env) -> None:
    """UpdateWorkflowExecutionOptions with one thing wrong at a time."""
    await env.start()

    async def case(label: str, **fields: object) -> None:
        base = {
            "workflow_execution": env.execution(),
            "workflow_execution_options": {"priority": {"priority_key": 2}},
            "update_mask": "priority",
        }
        await env.show(label, "UpdateWorkflowExecutionOptions", **{**base, **fields})

    await misnamed(env, case)
    await case("no options", workflow_execution_options=None)
    await case("no mask", update_mask=None)
    await case("unknown field in the mask", update_mask="nonsense")
    await case("priority below zero", workflow_execution_options={"priority": {"priority_key": -1}})
    await case("fairness key of 100", workflow_execution_options={"priority": {"fairness_key": "f" * 100}})
    await case("fairness weight below zero", workflow_execution_options={"priority": {"fairness_weight": -1}})
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    await case("closed run")


@scenario
async def links_everywhere(env: Env) -> None:
    """Links on a start, a signal, a cancel request and a termination are on their events."""
    link = link_to_another_run()
    batch = {"batch_job": {"job_id": "job"}}
    await env.start(links=[link, batch])
    await env.signal("s", links=[link])
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), links=[link])
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(), links=[link, batch])
    await env.history("run")


@scenario
async def priority_is_carried(env: Env) -> None:
    """A run's priority with fairness: in polls, in descriptions, over its activities and continue-as-new."""
    await env.start(priority={"priority_key": 2, "fairness_key": "tenant", "fairness_weight": 1.5})
    task = await env.poll()
    env.response("workflow task", "PollWorkflowTaskQueue", task)
    await env.complete(task, schedule(env, "plain"), schedule(env, "own", priority={"priority_key": 1}))
    for each in await env.poll_activities(2):
        env.note(each.activity_id, [each.priority.priority_key, each.priority.fairness_key, each.priority.fairness_weight])
        await env.rpc("RespondActivityTaskCompleted", task_token=each.task_token)
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.step()
    events = await env.events()
    env.note("activities", [str(each.activity_task_scheduled_event_attributes.priority).split() for each in events[4:6]])
    await env.signal("s")
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.history("second run")


@scenario
async def priority_is_validated(env: Env) -> None:
    """Priorities with one thing wrong at a time, on a start and on an activity."""
    cases = {
        "key below zero": {"priority_key": -1},
        "key 100": {"priority_key": 100},
        "fairness key of 64": {"fairness_key": "f" * 64},
        "fairness key of 65": {"fairness_key": "f" * 65},
        "weight below zero": {"fairness_weight": -1},
        "weight of a million": {"fairness_weight": 1000000},
    }
    for label, priority in cases.items():
        wid = env.name(label)
        started = await env.show(label, "StartWorkflowExecution", **env.start_fields(workflow_id=wid, priority=priority))
        if started:
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))
    for label, priority in cases.items():
        wid = env.name(f"{label} (activity)")
        await env.start(workflow_id=wid)
        task = await env.poll()
        await env.show(
            f"{label} (activity)",
            "RespondWorkflowTaskCompleted",
            task_token=task.task_token,
            commands=[schedule(env, priority=priority)],
        )
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))


@scenario
async def callbacks_are_validated(env: Env) -> None:
    """Completion callbacks on a start: which addresses, headers and numbers of them are taken."""

    async def case(label: str, *callbacks: dict[str, object]) -> None:
        await env.show(
            label,
            "StartWorkflowExecution",
            **env.start_fields(workflow_id=env.name(label), completion_callbacks=list(callbacks)),
        )

    def to(url: str, **header: str) -> dict[str, object]:
        return {"nexus": {"url": url, "header": header}}

    await case("an address that is not allowed", to("http://127.0.0.1:1/callback"))
    await case("https", to("https://example.org/callback"))
    await case("the server itself", to("temporal://system"))
    await case("the server itself, with a path", to("temporal://system/x"))
    await case("the server as an internal address", to("temporal://internal"))
    await case("no address", to(""))
    await case("no scheme", to("example.org/callback"))
    await case("another scheme", to("ftp://example.org/callback"))
    await case("no host", to("http:///callback"))
    await case("address of 1001", to("http://example.org/" + "x" * 1001))
    await case("empty callback", {})
    await case("internal callback", {"internal": {"data": payload("x")["data"]}})
    await case("many", *(to("temporal://system", number=str(number)) for number in range(33)))
    await case("large header", to("temporal://system", h="x" * 9000))


@scenario
async def callbacks_are_kept(env: Env) -> None:
    """A callback to the server itself is in the started event and the description; it is carried over retries."""
    callback = {"nexus": {"url": "temporal://system", "header": {"h": "v"}}, "links": []}
    await env.start(completion_callbacks=[callback], request_id="r1")
    await env.history("open run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.poll()
    await env.history("second run")


@scenario
async def user_metadata_of_a_run(env: Env) -> None:
    """Summary and details of a start are in its event and description, and carried on by continue-as-new, retry and reset or not."""
    metadata = {"summary": payload("sum"), "details": payload("det")}
    await env.start(user_metadata=metadata, retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.poll()
    await env.history("third run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def continue_as_new_carries_everything(env: Env) -> None:
    """Continue-as-new with every field that the command has."""
    first = await env.start(workflow_execution_timeout="1000s")
    await env.step(
        command(
            "CONTINUE_AS_NEW_WORKFLOW_EXECUTION",
            workflow_type={"name": "Second"},
            task_queue={"name": env.tq},
            input=payloads("two"),
            workflow_run_timeout="50s",
            workflow_task_timeout="5s",
            backoff_start_interval="1s",
            retry_policy={"initial_interval": "2s", "maximum_attempts": 3},
            initiator="CONTINUE_AS_NEW_INITIATOR_WORKFLOW",
            failure=failure("carried"),
            last_completion_result=payloads("last"),
            header={"fields": {"h": payload("v")}},
            memo={"fields": {"m": payload(2)}},
            search_attributes={"indexed_fields": {"CustomKeyword": payload("k2")}},
        )
    )
    await env.poll()
    await env.history("first run", run_id=first)
    await env.history("second run")


@scenario
async def continue_as_new_is_validated(env: Env) -> None:
    """Continue-as-new with one thing wrong at a time: the task fails with its cause and message."""

    async def case(label: str, **attributes: object) -> None:
        wid = env.name(label)
        await env.start(workflow_id=wid)
        task = await env.poll()
        again = command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", **{"workflow_type": {"name": "Demo"}, **attributes})
        await env.show(label, "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[again])
        for each in await env.events(wid):
            if each.HasField("workflow_task_failed_event_attributes"):
                recorded = each.workflow_task_failed_event_attributes
                env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))

    await case("type of 1001", workflow_type={"name": "x" * 1001})
    await case("queue of 1001", task_queue={"name": "x" * 1001})
    await case("queue with a reserved prefix", task_queue={"name": "/_sys/q"})
    await case("negative run timeout", workflow_run_timeout="-1s")
    await case("negative task timeout", workflow_task_timeout="-1s")
    await case("negative backoff", backoff_start_interval="-1s")
    await case("bad retry policy", retry_policy={"initial_interval": "1s", "backoff_coefficient": 0.5})
    await case("bad cron", cron_schedule="nonsense")
    await case("unknown search attribute", search_attributes={"indexed_fields": {"Nope": payload(1)}})
    await case("no type", workflow_type=None)


@scenario
async def history_of_a_long_run(env: Env) -> None:
    """A run of sixty tasks: counts in its description, and whether it is told to continue as new."""
    await env.start()
    for number in range(60):
        await env.step(timer(f"t{number}", "1000s"), force_create_new_workflow_task=True)
    task = await env.poll()
    started = task.history.events[-1].workflow_task_started_event_attributes
    env.note("suggested", started.suggest_continue_as_new)
    description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("length", description.workflow_execution_info.history_length)
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
