#!/bin/sh
# Builds .venv from requirements.lock and installs the packages of this tree editable.
# Says what is missing and how to get it; does nothing when .venv is up to date.
set -eu
cd "$(dirname "$0")/.."

missing=""
python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$candidate" ] || continue
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || missing="$missing
  Python 3.11 or newer   Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.11"
if [ -n "$python" ] && ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    missing="$missing
  Python's venv module   Debian, Ubuntu: apt-get install python3-venv"
fi
command -v git >/dev/null 2>&1 || missing="$missing
  git                    Debian, Ubuntu: apt-get install git; macOS: xcode-select --install"
if [ -n "$missing" ]; then
    echo "Slipway needs these before it can be set up:$missing" >&2
    exit 1
fi

packages="libs/schemas libs/kit libs/db libs/events libs/storage libs/runtime libs/testing
services/api-gateway services/scheduler services/inference-builder services/log-relay services/worker-agent
deploy/allinone"
stamp=$(cat requirements.lock libs/*/pyproject.toml services/*/pyproject.toml deploy/*/pyproject.toml deploy/setup.sh |
    "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
if [ -x .venv/bin/python ] && [ "$(cat .venv/.slipway-stamp 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

echo "Setting up .venv (once; about a minute on a fresh machine) ..." >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
editable=""
for package in $packages; do editable="$editable -e ./$package"; done
if .venv/bin/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then
    # shellcheck disable=SC2086
    .venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
    # shellcheck disable=SC2086
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation $editable
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $editable
fi
echo "$stamp" >.venv/.slipway-stamp
