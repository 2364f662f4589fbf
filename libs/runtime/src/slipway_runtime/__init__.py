"""The container contract: paths, config files, command, environment, metadata parser, secret redactor; ContainerRuntime protocol: docker, process, fake."""
