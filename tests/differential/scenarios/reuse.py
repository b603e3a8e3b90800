"""Workflow id reuse and conflict policies: which start wins, what the loser is told, what happens to the open run."""

from differential.env import Env, command, complete_run, link_to_another_run
from differential.registry import scenario
from harness.wire import failure, payload, payloads

REUSE = ("ALLOW_DUPLICATE", "ALLOW_DUPLICATE_FAILED_ONLY", "REJECT_DUPLICATE", "TERMINATE_IF_RUNNING")
CONFLICT = ("FAIL", "USE_EXISTING", "TERMINATE_EXISTING")


async def _start(env: Env, label: str, workflow_id: str, **fields: object) -> None:
    await env.show(label, "StartWorkflowExecution", **env.start_fields(workflow_id=workflow_id, **fields))


@scenario
async def reuse_policies_over_completed(env: Env) -> None:
    """Each id reuse policy over a run that completed."""
    for policy in REUSE:
        wid = env.name(policy.lower())
        await _start(env, f"{policy}: first", wid)
        await env.step(complete_run())
        await _start(env, f"{policy}: second", wid, workflow_id_reuse_policy=f"WORKFLOW_ID_REUSE_POLICY_{policy}")
        await env.history(policy, wid)
        if policy in ("ALLOW_DUPLICATE", "TERMINATE_IF_RUNNING"):
            await env.step(complete_run())


@scenario
async def reuse_policies_over_failed(env: Env) -> None:
    """Each id reuse policy over a run that failed."""
    for policy in REUSE:
        wid = env.name(policy.lower())
        await _start(env, f"{policy}: first", wid)
        await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
        await _start(env, f"{policy}: second", wid, workflow_id_reuse_policy=f"WORKFLOW_ID_REUSE_POLICY_{policy}")
        if policy != "REJECT_DUPLICATE":
            await env.step(complete_run())


@scenario
async def reuse_policies_over_open(env: Env) -> None:
    """Each id reuse policy over a run that is open."""
    for policy in REUSE:
        wid = env.name(policy.lower())
        first = (await env.rpc("StartWorkflowExecution", **env.start_fields(workflow_id=wid))).run_id
        await _start(env, f"{policy}: second", wid, workflow_id_reuse_policy=f"WORKFLOW_ID_REUSE_POLICY_{policy}")
        await env.history(f"{policy}: first run", wid, first)
        await env.history(f"{policy}: current run", wid)


@scenario
async def conflict_policies(env: Env) -> None:
    """Each id conflict policy over a run that is open, and what it leaves of that run."""
    for policy in CONFLICT:
        wid = env.name(policy.lower())
        first = (await env.rpc("StartWorkflowExecution", **env.start_fields(workflow_id=wid))).run_id
        await _start(env, f"{policy}: second", wid, workflow_id_conflict_policy=f"WORKFLOW_ID_CONFLICT_POLICY_{policy}")
        await env.history(f"{policy}: first run", wid, first)
        await env.history(f"{policy}: current run", wid)


@scenario
async def conflict_use_existing_attaches(env: Env) -> None:
    """USE_EXISTING with on_conflict_options: the open run gets an options-updated event with request id, callbacks and links."""
    await env.start(request_id="first")
    await env.step()
    fields = env.start_fields(
        request_id="second",
        workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING",
        on_conflict_options={"attach_request_id": True, "attach_links": True, "attach_completion_callbacks": True},
        links=[link_to_another_run()],
    )
    await env.show("attached", "StartWorkflowExecution", **fields)
    await env.show("attached again", "StartWorkflowExecution", **fields)
    await env.history("open run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def conflict_use_existing_plain(env: Env) -> None:
    """USE_EXISTING without options leaves no trace in the open run, and starts one when there is none."""
    fields = {"workflow_id_conflict_policy": "WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING"}
    await env.show("none open", "StartWorkflowExecution", **env.start_fields(**fields))
    await env.show("one open", "StartWorkflowExecution", **env.start_fields(**fields))
    await env.history("open run")
    await env.step(complete_run())
    await env.show("it closed", "StartWorkflowExecution", **env.start_fields(**fields))


@scenario
async def reuse_and_conflict_together(env: Env) -> None:
    """Combinations of both policies that the server refuses or that matter over a closed run."""
    await _start(
        env,
        "TERMINATE_IF_RUNNING with a conflict policy",
        env.wid,
        workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING",
        workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_FAIL",
    )
    await _start(
        env,
        "REJECT_DUPLICATE with TERMINATE_EXISTING",
        env.wid,
        workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE",
        workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
    )
    await env.start()
    await env.step(complete_run())
    await _start(
        env,
        "REJECT_DUPLICATE with USE_EXISTING over a closed run",
        env.wid,
        workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE",
        workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING",
    )


@scenario
async def signal_with_start_new_and_existing(env: Env) -> None:
    """SignalWithStart: no run, an open run, a closed run; the events' order and the started flag."""
    fields = env.start_fields(
        signal_name="s", signal_input=payloads("in"), input=payloads("start"), memo={"fields": {"m": payload(1)}}
    )
    await env.show("no run", "SignalWithStartWorkflowExecution", **{**fields, "request_id": "r1"})
    await env.show("same request", "SignalWithStartWorkflowExecution", **{**fields, "request_id": "r1"})
    await env.show("open run", "SignalWithStartWorkflowExecution", **{**fields, "request_id": "r2"})
    task = await env.poll()
    await env.complete(task, complete_run())
    await env.history("first run", run_id=task.workflow_execution.run_id)
    await env.show("closed run", "SignalWithStartWorkflowExecution", **{**fields, "request_id": "r3"})
    await env.history("second run")
    await env.step(complete_run())
    await env.show(
        "closed run, rejected",
        "SignalWithStartWorkflowExecution",
        **{
            **fields,
            "request_id": "r4",
            "workflow_id_reuse_policy": "WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE",
        },
    )


@scenario
async def signal_with_start_terminates(env: Env) -> None:
    """SignalWithStart under TERMINATE_EXISTING: the open run is terminated and a new one gets the signal."""
    first = await env.start()
    await env.show(
        "terminate existing",
        "SignalWithStartWorkflowExecution",
        **env.start_fields(
            signal_name="s",
            request_id="r",
            workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
        ),
    )
    await env.history("first run", run_id=first)
    await env.history("second run")
    await env.show(
        "FAIL is refused",
        "SignalWithStartWorkflowExecution",
        **env.start_fields(
            signal_name="s", request_id="r2", workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_FAIL"
        ),
    )
