"""What the server refuses of a start, a signal-with-start, and of namespace calls."""

from differential.env import Env
from differential.registry import scenario
from harness.wire import payload, payloads

LONG = "x" * 1001
BIG = payloads("y" * (2 * 1024 * 1024 + 10))


@scenario
async def start_is_validated(env: Env) -> None:
    """StartWorkflowExecution with one thing wrong at a time."""

    async def case(label: str, **fields: object) -> None:
        await env.show(label, "StartWorkflowExecution", **env.start_fields(**{"workflow_id": env.name(label), **fields}))

    await case("no workflow id", workflow_id="")
    await case("workflow id of 1001", workflow_id=LONG)
    await case("workflow id of 1000", workflow_id="i" * (1000 - len(env.nonce)) + env.nonce)
    await case("no workflow type", workflow_type={"name": ""})
    await case("workflow type absent", workflow_type=None)
    await case("workflow type of 1001", workflow_type={"name": LONG})
    await case("no task queue", task_queue={"name": ""})
    await case("task queue absent", task_queue=None)
    await case("task queue of 1001", task_queue={"name": LONG})
    await case("task queue with a reserved prefix", task_queue={"name": "/_sys/q"})
    await case("task queue with a slash", task_queue={"name": "a/b" + env.nonce})
    await case("sticky task queue", task_queue={"name": env.tq, "kind": "TASK_QUEUE_KIND_STICKY"})
    await case("no request id", request_id="")
    await case("request id of 1001", request_id=LONG)
    await case("identity of 1001", identity=LONG)
    await case("negative execution timeout", workflow_execution_timeout="-1s")
    await case("negative run timeout", workflow_run_timeout="-1s")
    await case("negative task timeout", workflow_task_timeout="-1s")
    await case("negative start delay", workflow_start_delay="-1s")
    await case("unknown namespace", namespace="nowhere")
    await case("no namespace", namespace="")
    await case("unknown search attribute", search_attributes={"indexed_fields": {"Nope": payload(1)}})
    await case("search attribute of the wrong type", search_attributes={"indexed_fields": {"CustomInt": payload("a")}})
    await case("system search attribute", search_attributes={"indexed_fields": {"ExecutionStatus": payload("a")}})
    await case("input over the limit", input=BIG)
    await case("memo over the limit", memo={"fields": {"m": BIG["payloads"][0]}})
    await case("header over the limit", header={"fields": {"h": BIG["payloads"][0]}})
    await case("eager with a start delay", request_eager_execution=True, workflow_start_delay="1s")
    await case("request id longer than a UUID", request_id="r" * 100)
    await case("many links", links=[_link(each) for each in range(11)])
    await case("link without a workflow id", links=[{"workflow_event": {"namespace": "default", "run_id": "r"}}])
    await case("priority below zero", priority={"priority_key": -1})
    await case("priority key 9", priority={"priority_key": 9})
    await case("user metadata over the limit", user_metadata={"summary": payload("s" * 500)})


def _link(number: int) -> dict[str, object]:
    return {"workflow_event": {"namespace": "default", "workflow_id": f"w{number}", "run_id": "r"}}


@scenario
async def retry_policy_is_validated(env: Env) -> None:
    """A workflow retry policy with one thing wrong at a time."""
    cases = {
        "empty": {},
        "negative initial interval": {"initial_interval": "-1s"},
        "coefficient below 1": {"initial_interval": "1s", "backoff_coefficient": 0.5},
        "negative coefficient": {"initial_interval": "1s", "backoff_coefficient": -1},
        "negative maximum interval": {"initial_interval": "1s", "maximum_interval": "-1s"},
        "maximum below initial interval": {"initial_interval": "10s", "maximum_interval": "1s"},
        "negative attempts": {"initial_interval": "1s", "maximum_attempts": -1},
        "one attempt": {"maximum_attempts": 1},
        "zero initial interval": {"initial_interval": "0s", "maximum_attempts": 2},
    }
    for label, policy in cases.items():
        wid = env.name(label)
        await env.show(
            label, "StartWorkflowExecution", **env.start_fields(workflow_id=wid, retry_policy={**policy})
        )
        events = []
        try:
            events = await env.events(wid)
        except Exception:  # noqa: BLE001  (a refused start has no history)
            continue
        env.note(f"{label}: as recorded", _policy(events[0]))


def _policy(event: object) -> object:
    from harness.normal import to_dict

    return to_dict(event.workflow_execution_started_event_attributes).get("retry_policy")  # type: ignore[attr-defined]


@scenario
async def signal_with_start_is_validated(env: Env) -> None:
    """SignalWithStartWorkflowExecution with one thing wrong at a time."""

    async def case(label: str, **fields: object) -> None:
        fields = {"workflow_id": env.name(label), "signal_name": "s", **fields}
        await env.show(label, "SignalWithStartWorkflowExecution", **env.start_fields(**fields))

    await case("no workflow id", workflow_id="")
    await case("no signal name", signal_name="")
    await case("signal name of 1001", signal_name=LONG)
    await case("no workflow type", workflow_type={"name": ""})
    await case("no task queue", task_queue={"name": ""})
    await case("negative run timeout", workflow_run_timeout="-1s")
    await case("unknown namespace", namespace="nowhere")
    await case("signal input over the limit", signal_input=BIG)
    await case("input over the limit", input=BIG)
    await case("request id of 1001", request_id=LONG)
    await case("workflow id of 1001", workflow_id=LONG)


@scenario
async def namespaces(env: Env) -> None:
    """RegisterNamespace, DescribeNamespace by name and id, UpdateNamespace, and their errors."""
    name = env.name("ns")
    await env.show(
        "register",
        "RegisterNamespace",
        namespace=name,
        description="d",
        owner_email="o@example.org",
        workflow_execution_retention_period="86400s",
        data={"k": "v"},
    )
    described = await env.show("describe by name", "DescribeNamespace", namespace=name)
    await env.show("describe by id", "DescribeNamespace", namespace="", id=described.namespace_info.id)
    await env.show("register again", "RegisterNamespace", namespace=name, workflow_execution_retention_period="86400s")
    await env.show("register without retention", "RegisterNamespace", namespace=env.name("n2"))
    await env.show(
        "retention too short",
        "RegisterNamespace",
        namespace=env.name("n3"),
        workflow_execution_retention_period="60s",
    )
    await env.show("no name", "RegisterNamespace", namespace="", workflow_execution_retention_period="86400s")
    await env.show(
        "name of 1001", "RegisterNamespace", namespace=LONG, workflow_execution_retention_period="86400s"
    )
    await env.show(
        "name with a blank", "RegisterNamespace", namespace="a b" + env.nonce, workflow_execution_retention_period="86400s"
    )
    await env.show("describe unknown", "DescribeNamespace", namespace="nowhere")
    await env.show("describe unknown id", "DescribeNamespace", namespace="", id="11111111-1111-4111-8111-111111111111")
    await env.show("describe nothing", "DescribeNamespace", namespace="")
    await env.show(
        "update", "UpdateNamespace", namespace=name, update_info={"description": "new", "owner_email": "p@example.org"}
    )
    await env.show("describe after the update", "DescribeNamespace", namespace=name)
    await env.show("update unknown", "UpdateNamespace", namespace="nowhere", update_info={"description": "new"})
    await env.show("start in it", "StartWorkflowExecution", **env.start_fields(namespace=name))
    default = await env.rpc("DescribeNamespace", namespace="default")
    env.note("default", [default.namespace_info.name, default.namespace_info.state])


@scenario
async def system_and_cluster(env: Env) -> None:
    """GetSystemInfo and GetClusterInfo: which fields are filled in."""
    await env.show("system", "GetSystemInfo")
    info = await env.rpc("GetClusterInfo")
    env.note("cluster info fields", sorted(each.name for each, _ in info.ListFields()))
    env.note("supported clients", sorted(info.supported_clients))
