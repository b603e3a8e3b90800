"""The workloads: each a coroutine `run(scene) -> Verdict` that makes load and faults, collects evidence and has it checked."""
