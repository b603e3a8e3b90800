"""Which Raft group a workflow id belongs to, so that a stall can be told group by group.

A slot is fixed for ever (first two bytes of BLAKE3 over namespace id, a zero byte and workflow id, modulo 4,096); a new cluster gives
its groups 1..n equal ranges of slots in order. That second half may change, so it is never trusted: `proven_finder` writes to
an idle cluster and looks which group's log grew. Called by the `failover` workload.
"""

from __future__ import annotations

from collections.abc import Callable

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from .api import NAMESPACE, Api
from .blake3 import blake3
from .processes import HarnessError

SLOTS = 4096


def slot_of(namespace_id: str, wf: str) -> int:
    return int.from_bytes(blake3(namespace_id.encode() + b"\0" + wf.encode())[:2], "big") % SLOTS


def group_of(slot: int, groups: int) -> int:
    return 1 + slot * groups // SLOTS


async def finder(api: Api, groups: int) -> Callable[[str], int]:
    """A function from workflow id to group, for the namespace `default`."""
    described = await api.call("DescribeNamespace", DescribeNamespaceRequest(namespace=NAMESPACE), 10.0)
    namespace_id = described.namespace_info.id
    return lambda wf: group_of(slot_of(namespace_id, wf), groups)


async def proven_finder(scene) -> Callable[[str], int]:
    """`finder`, after showing for each group that starts which it claims for the group make that group's log grow, and most."""
    groups = scene.options.groups
    find = await finder(scene.apis[0], groups)
    for group in range(1, groups + 1):
        candidates = (wf for number in range(100_000) if find(wf := f"probe-{group}-{number}") == group)
        before = await _last_logs(scene)
        for _ in range(6):
            await scene.client.start(next(candidates), "Never", 0, task_queue="jepsen-nobody")
        after = await _last_logs(scene)
        grown = {g: after[g] - before.get(g, 0) for g in after if g != 0}
        if not grown or max(grown, key=grown.get) != group or grown[group] < 2:
            raise HarnessError(f"six starts meant for group {group} made the logs grow by {grown}: slots are mapped otherwise than `slots` thinks")
    return find


async def _last_logs(scene) -> dict[int, int]:
    status = await scene.cluster.status()
    if status is None:
        raise HarnessError("no node answers `cluster status`")
    return {group["group"]: group["last_log"] for group in status["groups"]}
