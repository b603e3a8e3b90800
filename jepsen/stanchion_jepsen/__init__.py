"""Chaos tests: real node processes, real SDK workers, real faults, and checkers that read what was seen from outside.

Nothing in this package knows how a node works inside: it starts `stanchion` processes, speaks Temporal's gRPC API to them,
kills them, and judges the histories, ledgers and journals that it collected. `jepsen/run` is the way in.
"""
