"""Calls to one cluster's API server: plain paths and JSON, with the credentials of a kubeconfig or of this pod."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import yaml

from slipway_builder.targets.kubernetes.names import FIELD_MANAGER
from slipway_kit.errors import Invalid, NotFound, SlipwayError, Unavailable
from slipway_kit.http import refuse_in_transaction
from slipway_kit.transfer import TRANSFER_ERRORS

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

APPLY: Final = "application/apply-patch+yaml"
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_FILE_KEYS: Final = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "token",
}
_PLUGINS: Final = ("exec", "auth-provider")
_NO_ANSWER: Final = (*TRANSFER_ERRORS, OSError)
_CONNECT_SECONDS: Final = 5.0
_POLICY_WORDS: Final = ("exceeded quota", "violates PodSecurity", "admission webhook", "denied the request", "policy")


class Refused(Invalid):
    """The cluster does not take an object for what it says."""

    code = "refused"


class NotAllowed(Unavailable):
    """The cluster knows the account, which lacks a right; trying again helps after somebody has granted it."""

    code = "not_allowed"


class ClusterApi:
    """One API server. Every call ends within its time-out."""

    def __init__(self, kubeconfig: str | None, context: str | None, request_seconds: float) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._seconds = request_seconds
        self._opening = asyncio.Lock()
        self._client: ApiClient | None = None

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read an object or a list."""
        return await self._call("GET", path, query)

    async def list_metadata(self, path: str, **query: str) -> dict[str, Any]:
        """Read a list of objects without what is in them."""
        return await self._call("GET", path, query, accept=_METADATA)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, or ask a question that is put as one."""
        return await self._call("POST", path, {}, body)

    async def apply(
        self, path: str, manifest: Mapping[str, Any], *, manager: str = FIELD_MANAGER, dry_run: bool = False
    ) -> dict[str, Any]:
        """Server-side apply; fields that others have taken are taken back."""
        query = {"fieldManager": manager, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        return await self._call("PATCH", path, query, manifest, APPLY)

    async def delete(self, path: str, *, propagation: str = "Background") -> bool:
        """Delete an object; False when there is none."""
        try:
            await self._call("DELETE", path, {}, {"propagationPolicy": propagation})
        except NotFound:
            return False
        return True

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Read an answer that has no end, piece by piece."""
        client = await self._open()
        answer = await self._send(client, "GET", path, query, None, _JSON, timeout=(_CONNECT_SECONDS, None))
        try:
            if answer.status >= 400:
                raise _error(answer.status, await self._whole(answer), "GET", path)
            async for piece in answer.content.iter_any():
                yield piece
        except _NO_ANSWER as error:
            raise _unreachable(client, error) from error
        finally:
            answer.close()

    async def aclose(self) -> None:
        """Close the connections."""
        async with self._opening:
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> dict[str, Any]:
        client = await self._open()
        answer = await self._send(client, method, path, query, body, content, timeout=self._seconds, accept=accept)
        try:
            data = await self._whole(answer)
        except _NO_ANSWER as error:
            raise _unreachable(client, error) from error
        finally:
            answer.release()
        if answer.status >= 400:
            raise _error(answer.status, data, method, path)
        try:
            found = json.loads(data)
        except ValueError as error:
            raise Unavailable(f"The cluster answered {method} {path} with something that is not JSON.") from error
        return found if isinstance(found, dict) else {}

    async def _whole(self, answer: Any) -> bytes:
        async with asyncio.timeout(self._seconds):
            return bytes(await answer.read())

    async def _send(
        self,
        client: "ApiClient",
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content: str,
        timeout: Any,
        accept: str = _JSON,
    ) -> Any:
        refuse_in_transaction(path)
        headers = {"Accept": accept, "Content-Type": content}
        try:
            async with asyncio.timeout(self._seconds):
                return await client.call_api(
                    path,
                    method,
                    query_params=list(query.items()),
                    header_params=headers,
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=timeout,
                )
        except _NO_ANSWER as error:
            raise _unreachable(client, error) from error

    async def _open(self) -> "ApiClient":
        async with self._opening:
            if self._client is None:
                self._client = await _connect(self._kubeconfig, self._context)
            return self._client


async def _connect(kubeconfig: str | None, context: str | None) -> "ApiClient":
    library, config = await asyncio.to_thread(_load_library)
    settings = library.Configuration()
    settings.retries = 0
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=settings)
        else:
            content = await asyncio.to_thread(read_kubeconfig, kubeconfig)
            await config.load_kube_config_from_dict(content, context=context, client_configuration=settings)
    except config.ConfigException as error:
        where = "this pod's account" if kubeconfig is None else "the kubeconfig"
        raise Invalid(f"The cluster's credentials cannot be read from {where}: {error}") from error
    try:
        client: ApiClient = library.ApiClient(configuration=settings)
    except (OSError, ValueError) as error:
        raise Invalid(f"The kubeconfig's certificates cannot be used: {error}") from error
    return client


def _load_library() -> tuple[ModuleType, ModuleType]:
    """Its 900 modules are too many to import on the event loop, and for those who have no cluster."""
    from kubernetes_asyncio import client, config

    return client, config


def read_kubeconfig(text: str) -> dict[str, Any]:
    """Read the text of a kubeconfig.

    Raises `Invalid` when it refers to files or to programs: it was written on another machine, and whoever may add a
    target must not read files or start programs here.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Invalid(f"The kubeconfig is not YAML: {str(error).splitlines()[0]}", field="kubeconfig") from error
    if not isinstance(content, dict) or not all(content.get(key) for key in ("clusters", "contexts")):
        raise Invalid("The kubeconfig names no cluster and no context.", field="kubeconfig")
    for section, key in (("clusters", "cluster"), ("users", "user")):
        for entry in content.get(section) or ():
            _check_entry(section[:-1], str(entry.get("name")), entry.get(key) or {})
    return content


def _check_entry(what: str, name: str, entry: Mapping[str, Any]) -> None:
    for key in _PLUGINS:
        if key in entry:
            raise Invalid(
                f"The kubeconfig's {what} {name} logs in by a program ({key}), which is not run here; give it the "
                "token of a service account, or a client certificate.",
                field="kubeconfig",
            )
    for key, better in _FILE_KEYS.items():
        if key in entry:
            raise Invalid(
                f"The kubeconfig's {what} {name} refers to a file ({key}); put its content into {better} "
                "(`kubectl config view --raw --flatten` does it).",
                field="kubeconfig",
            )


def _unreachable(client: "ApiClient", error: BaseException) -> Unavailable:
    reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return Unavailable(
        f"The cluster at {client.configuration.host} does not answer: {reason}.", code="target_unreachable"
    )


def _error(status: int, data: bytes, method: str, path: str) -> SlipwayError:
    message = data[:500].decode(errors="replace").strip()
    with suppress(ValueError, AttributeError):
        message = str(json.loads(data).get("message", "")) or message
    if status == 401:
        return Unavailable(
            "The cluster does not accept the target's credentials; they may have expired: give it new ones."
        )
    if status == 403 and not any(word in message for word in _POLICY_WORDS):
        return NotAllowed(f"The target's account lacks a right on the cluster: {message}")
    if status == 404:
        return NotFound(message)
    if status in (400, 403, 413, 415, 422):
        return Refused(f"The cluster refuses it: {message}")
    return Unavailable(f"The cluster cannot answer {method} {path} now ({status}): {message}")
