"""Runs attempts on one machine: agent, shim, inputs, outputs, spool, cache."""
