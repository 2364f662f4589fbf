"""The process that reads users' YAML: limited in memory, no secrets in it, killed when it takes too long.

Speaks length-prefixed messages on stdin and stdout: YAML bytes in, JSON out.
"""

import json
import resource
import struct
import sys
from typing import Any, BinaryIO

import yaml
from valohai_yaml import ValidationErrors, parse, validate
from valohai_yaml.lint import lint

MEMORY_BYTES = 1024**3
MAX_CONFIG_BYTES = 8 * 1024**2
MAX_VALUES = 200_000
"""Values in a config with every alias written out; more would take minutes to validate."""


def read(content: bytes) -> dict[str, Any]:
    """`{"config": [...]}` for good YAML, else `{"error": {"message", "line", "hint"}}`."""
    try:
        text = content.decode("utf-8")
        data = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        return _error(f"The file is not UTF-8 text: {error}.", None, "Save it as UTF-8.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        return _error(
            f"The YAML cannot be parsed: {error.problem or error}", line, "Check indentation and quotes there."
        )
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _error(f"The YAML cannot be parsed: {error.reason}.", line, "Remove the unprintable character there.")
    except yaml.YAMLError as error:
        return _error(f"The YAML cannot be parsed: {error}", None, "Run: vh lint")
    if data is None:
        return {"config": []}
    if unfolded(data, {}) > MAX_VALUES:
        return _error(f"The YAML unfolds to more than {MAX_VALUES} values.", None, "Use fewer aliases.")
    try:
        validate(data, raise_exc=True)
        parse(data, validate=False)
        problems = [message for message in lint(data, ansi_colors=False).messages if message["type"] == "error"]
    except ValidationErrors as errors:
        first = next(iter(errors.errors))
        if isinstance(first, str):
            return _error(f"The YAML is not valid: {first[:500]}", None, "Run: vh lint")
        place = "/".join(str(part) for part in first.absolute_path)
        hint = f"See {place}." if place else "The file is a list of items such as `- step:`."
        return _error(f"The YAML is not valid: {first.message[:500]}", _line_of(text, list(first.absolute_path)), hint)
    except Exception as error:  # noqa: BLE001 - the library raises many kinds for malformed items
        return _error(f"The YAML is not valid: {type(error).__name__}: {error}", None, "Check the kinds of the values.")
    if problems:
        return _error(f"The YAML is not valid: {problems[0]['message']}", None, "Run: vh lint")
    config = json.loads(json.dumps(data if isinstance(data, list) else [data], default=str))
    return {"config": config}


def unfolded(value: Any, counted: dict[int, float]) -> float:
    """How many values there are when every alias is written out; infinite for one that holds itself."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in counted:
        counted[id(value)] = float("inf")
        inner = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(unfolded(one, counted) for one in inner)
    return counted[id(value)]


def _error(message: str, line: int | None, hint: str) -> dict[str, Any]:
    return {"error": {"message": message, "line": line, "hint": hint}}


def _line_of(text: str, path: list[str | int]) -> int | None:
    """The line of the item that a path leads to, as far as the path can be followed."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for part in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            found = next((value for key, value in node.value if key.value == part), None)
            if found is None:
                break
            node = found
    return None if node is None else int(node.start_mark.line) + 1


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SystemExit(0)
    return content


def main() -> None:
    """Answer messages until stdin ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        (size,) = struct.unpack(">I", _exactly(stdin, 4))
        try:
            answer = json.dumps(read(_exactly(stdin, size))).encode()
        except (MemoryError, RecursionError):
            answer = json.dumps(_error("The YAML is too large or too deep.", None, "")).encode()
        if len(answer) > MAX_CONFIG_BYTES:
            answer = json.dumps(_error("The YAML unfolds to more than 8 MiB.", None, "Use fewer aliases.")).encode()
        stdout.write(struct.pack(">I", len(answer)) + answer)
        stdout.flush()


if __name__ == "__main__":
    main()
