"""One small process per attempt: pipes, raw spool, exit code, timers, stop. It outlives the agent.

Standard library only (and `slipway_runtime.layout`, which keeps the same rule).
"""
