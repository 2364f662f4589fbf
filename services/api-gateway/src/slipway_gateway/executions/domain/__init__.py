"""Pure rules of executions: from a request and a step of a commit to a resolved `ExecutionSpec`."""
