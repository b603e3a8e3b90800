"""Bad input of every kind gets a clear error, and nothing is lost by it."""

import os
import resource
import signal
import subprocess

import pytest

from e2e.test_operations import start
from harness import servers
from harness.wire import Refusal, Wire, payloads

OTHER_RUN = "11111111-1111-4111-8111-111111111111"


async def refused(wire: Wire, method: str, **fields: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await wire.call(method, **fields)
    return caught.value


async def test_unknown_namespace(wire, unique):
    error = await refused(wire, "StartWorkflowExecution", **start(unique, namespace="no-such"))
    assert (error.code, error.message) == ("NOT_FOUND", "Namespace no-such is not found.")
    assert error.details[0]["type"].endswith("NamespaceNotFoundFailure")


async def test_oversized_payload_is_refused_and_the_run_stays(wire, unique):
    await wire.call("StartWorkflowExecution", **start(unique))
    error = await refused(
        wire,
        "SignalWorkflowExecution",
        workflow_execution={"workflow_id": unique},
        signal_name="s",
        input=payloads("x" * (2 * 1024 * 1024 + 1)),
    )
    assert error.code == "INVALID_ARGUMENT"
    await wire.call("SignalWorkflowExecution", workflow_execution={"workflow_id": unique}, signal_name="small")
    page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": unique})
    signals = [each for each in page.history.events if each.HasField("workflow_execution_signaled_event_attributes")]
    assert [each.workflow_execution_signaled_event_attributes.signal_name for each in signals] == ["small"]


@pytest.mark.parametrize("token", [b"rubbish", b"\xff" * 200, b"\x0a\x02hi"])
@pytest.mark.parametrize(
    "method",
    [
        "RespondWorkflowTaskCompleted",
        "RespondWorkflowTaskFailed",
        "RespondActivityTaskCompleted",
        "RespondActivityTaskFailed",
        "RespondActivityTaskCanceled",
        "RecordActivityTaskHeartbeat",
        "RespondQueryTaskCompleted",
    ],
)
async def test_malformed_token(wire, method, token):
    error = await refused(wire, method, task_token=token)
    assert error.code in ("INVALID_ARGUMENT", "NOT_FOUND"), error


async def test_wrong_run_id(wire, unique):
    await wire.call("StartWorkflowExecution", **start(unique))
    for run_id, code in ((OTHER_RUN, "NOT_FOUND"), ("not-a-uuid", "INVALID_ARGUMENT")):
        execution = {"workflow_id": unique, "run_id": run_id}
        error = await refused(wire, "SignalWorkflowExecution", workflow_execution=execution, signal_name="s")
        assert error.code == code
        error = await refused(wire, "DescribeWorkflowExecution", execution=execution)
        assert error.code == code


async def test_expired_deadline(wire, unique):
    first = await wire.call("StartWorkflowExecution", **start(unique))
    # Nobody polls the queue, so nobody answers in time.
    execution = {"workflow_id": unique}
    error = await refused(wire, "QueryWorkflow", timeout=0.3, execution=execution, query={"query_type": "q"})
    assert error.code == "DEADLINE_EXCEEDED", error
    # Nothing is lost by it, and a start that is sent again is one run.
    again = await wire.call("StartWorkflowExecution", **start(unique))
    assert first.run_id == again.run_id


async def test_poll_without_a_deadline(wire):
    error = await refused(wire, "PollWorkflowTaskQueue", timeout=None, task_queue={"name": "q"})
    assert (error.code, error.message) == ("INVALID_ARGUMENT", "Context timeout is not set.")


def run(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [servers.stanchion_bin(), *argv],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **(env or {})},
    )


def node_config(folder, **changes: object) -> str:
    grpc_port, http_port, peer_port = servers.free_ports(3)
    settings: dict[str, object] = {
        "node_id": 1,
        "data": str(folder / "data"),
        "grpc": f"127.0.0.1:{grpc_port}",
        "http": f"127.0.0.1:{http_port}",
        "peer": f"127.0.0.1:{peer_port}",
        **changes,
    }
    path = folder / "node.toml"
    lines = [f"{key} = {value if isinstance(value, int) else repr(str(value))}" for key, value in settings.items()]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_config_with_a_typo(tmp_path):
    done = run("node", "--config", node_config(tmp_path, gprc="127.0.0.1:1"))
    assert done.returncode != 0
    assert "gprc" in done.stderr, done.stderr


def test_config_that_is_not_there(tmp_path):
    done = run("node", "--config", str(tmp_path / "none.toml"))
    assert done.returncode != 0
    assert "none.toml" in done.stderr, done.stderr


def test_unknown_limit():
    done = run("dev", "--ephemeral", "--limit", "no_such_limit=1")
    assert done.returncode != 0
    assert "no_such_limit" in done.stderr, done.stderr


def test_listening_beyond_loopback_needs_the_word(tmp_path):
    port = servers.free_ports(1)[0]
    done = run("node", "--config", node_config(tmp_path, grpc=f"0.0.0.0:{port}"))
    assert done.returncode != 0
    assert "insecure" in done.stderr, done.stderr


@pytest.mark.parametrize("which", ["grpc", "http"])
def test_port_in_use(stanchion, which):
    ports = [f"127.0.0.1:{each}" for each in servers.free_ports(2)]
    taken = stanchion.grpc if which == "grpc" else stanchion.http
    ports[0 if which == "grpc" else 1] = taken
    done = run("dev", "--ephemeral", "--grpc", ports[0], "--http", ports[1])
    assert done.returncode != 0
    assert taken in done.stderr, done.stderr
    assert "in use" in done.stderr, done.stderr


def test_data_folder_already_in_use(start_server, tmp_path):
    start_server(tmp_path / "data")
    grpc_port, http_port = servers.free_ports(2)
    done = run(
        "dev", "--data", str(tmp_path / "data"), "--grpc", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http_port}"
    )
    assert done.returncode != 0
    assert str(tmp_path / "data") in done.stderr, done.stderr


def test_data_folder_of_another_cluster(start_server, tmp_path):
    """A node must refuse a folder that belongs to another node or cluster, and leave it as it was."""
    data = tmp_path / "data"
    server = start_server(data)
    assert server.stop() == 0
    done = run("node", "--config", node_config(tmp_path, node_id=7, data=data))
    assert done.returncode != 0
    assert str(data) in done.stderr, done.stderr
    start_server(data)


async def test_full_disk_loses_nothing_acknowledged(start_server, tmp_path):
    """Writes that the disk refuses end the node with a clear error; what was acknowledged is there after a restart.

    The disk is filled by a limit on the size of a file, which needs no privileges and fails writes in the same place.
    """
    data = tmp_path / "data"
    server = start_server(data)
    assert server.stop() == 0

    grpc_port, http_port = servers.free_ports(2)
    argv = [servers.stanchion_bin(), "dev", "--data", str(data)]
    argv += ["--grpc", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http_port}"]
    server = servers.spawn("stanchion", argv, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}", before=_small_files)
    acknowledged: list[str] = []
    try:
        server.await_ready()
        wire = Wire(server.grpc)
        for number in range(400):
            name = f"run-{number}"
            try:
                await wire.call("StartWorkflowExecution", timeout=5, **start(name, input=payloads("x" * 200_000)))
            except Refusal as error:
                assert error.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED"), error
                break
            acknowledged.append(name)
        else:
            raise AssertionError("80 MB went into files of 4 MB")
        await wire.close()
        words = server.words()
    finally:
        server.kill()
    assert acknowledged
    assert "File too large" in words or "disk" in words.lower() or "No space" in words, words

    server = start_server(data)
    wire = Wire(server.grpc)
    for name in acknowledged:
        page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": name})
        assert page.history.events[0].HasField("workflow_execution_started_event_attributes")
    await wire.close()


def _small_files() -> None:
    # The write must fail with an error rather than the process with a signal.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 1024 * 1024, 4 * 1024 * 1024))


async def test_a_chain_of_failures_as_deep_as_a_request_can_be_is_cut(wire, unique):
    """It fits the request, and would no longer fit what the request becomes a part of."""
    await wire.call("StartWorkflowExecution", **start(unique, queue=unique))
    accepted = 0
    for length in (94, 95, 96, 97, 98, 99):
        task = await wire.call("PollWorkflowTaskQueue", task_queue={"name": unique})
        marker = {"command_type": "COMMAND_TYPE_RECORD_MARKER", "record_marker_command_attributes": {"marker_name": "m"}}
        request = wire.request(
            "RespondWorkflowTaskCompleted",
            task_token=task.task_token,
            commands=[marker],
            force_create_new_workflow_task=True,
        )
        failure = request.commands[0].record_marker_command_attributes.failure
        for number in range(length):
            failure.message = f"number {number}"
            failure = failure.cause if number < length - 1 else failure
        try:
            await wire.send("RespondWorkflowTaskCompleted", request)
            accepted += 1
        except Refusal as refusal:
            # Deeper than the server reads at all: nothing has happened.
            assert refusal.code in ("INTERNAL", "INVALID_ARGUMENT"), refusal
            break
    assert accepted > 0
    page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": unique})
    markers = [each for each in page.history.events if each.HasField("marker_recorded_event_attributes")]
    assert len(markers) == accepted
    for marker in markers:
        depth, failure = 1, marker.marker_recorded_event_attributes.failure
        while failure.HasField("cause"):
            depth, failure = depth + 1, failure.cause
        assert depth == 50
        assert "a chain of failures may be 50 deep" in failure.message
