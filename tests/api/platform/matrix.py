"""Which calls every public route gets in the matrix of users. A route without a row fails the test.

Templates name things by placeholders (`{datum}`); the matrix fills them with ids of another user's things, and with
ids of things that do not exist, and wants the same answer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.api.platform.population import Estate

PATH_NAMES = {
    "project_id": "project",
    "identifier": "commit",
    "execution_id": "execution",
    "datum_id": "datum",
    "alias_id": "alias",
    "store_id": "store",
    "upload_id": "upload",
    "deployment_id": "deployment",
    "version_id": "version",
    "endpoint_id": "endpoint",
    "key_id": "key",
    "target_id": "target",
    "name": "slug",
}
UNKNOWN = {
    "project": "0190dead-0000-7000-8000-000000000001",
    "execution": "0190dead-0000-7000-8000-000000000002",
    "datum": "0190dead-0000-7000-8000-000000000003",
    "alias": "0190dead-0000-7000-8000-000000000004",
    "store": "0190dead-0000-7000-8000-000000000005",
    "upload": "0190dead-0000-7000-8000-000000000006",
    "output": "0190dead-0000-7000-8000-000000000007",
    "environment_id": "0190dead-0000-7000-8000-000000000008",
    "token": "0190dead-0000-7000-8000-000000000009",
    "deployment": "0190dead-0000-7000-8000-00000000000a",
    "version": "0190dead-0000-7000-8000-00000000000b",
    "endpoint": "0190dead-0000-7000-8000-00000000000c",
    "key": "0190dead-0000-7000-8000-00000000000d",
    "target": "0190dead-0000-7000-8000-00000000000e",
    "version_name": "nothing-v1",
    "commit": "dead" * 10,
    "branch": "nothing-branch",
    "environment": "nothing-environment",
    "alias_name": "nothing-alias",
    "tag": "nothing-tag",
    "owner": "nothing",
    "slug": "nothing-lab",
    "user": "2147483000",
    "organization": "nothing-org",
    "group": "nothing-group",
}


def things_of(estate: Estate) -> dict[str, str]:
    """What an estate has, by placeholder."""
    return {
        "project": estate.project["id"],
        "execution": estate.execution["id"],
        "datum": estate.datum["id"],
        "alias": estate.alias["id"],
        "store": estate.store["id"],
        "upload": estate.upload,
        "output": estate.output_datum,
        "environment_id": estate.machine.environment_id,
        "token": estate.api_token_id,
        "deployment": estate.served.deployment,
        "version": estate.served.version,
        "endpoint": estate.served.endpoint,
        "key": estate.served.key,
        "target": UNKNOWN["target"],  # targets are everybody's to see and administrators' to change
        "version_name": f"{estate.name}-v1",
        "commit": estate.commit,
        "branch": estate.branch,
        "environment": estate.machine.slug,
        "alias_name": f"{estate.name}-alias",
        "tag": f"{estate.name}-tag",
        "owner": estate.project["owner"]["username"],
        "slug": estate.project["slug"],
        "user": str(estate.user_id),
        "organization": f"{estate.name}-org",
        "group": f"{estate.name}-group",
    }


@dataclass(frozen=True)
class Call:
    """One call as templates: a path instead of the route's own, a query, a JSON body or a page's form."""

    path: str | None = None
    query: str = ""
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None

    def placeholders(self, path: str) -> list[str]:
        """What the call names."""
        text = f"{self.path or path}?{self.query}{json.dumps(self.body)}{json.dumps(self.form)}"
        return sorted(set(re.findall(r"\{(\w+)\}", text)))


def template_of(route: str) -> str:
    """A route's path with our placeholders."""
    kinds = {"reference": "environment" if "/environments/" in route else "execution"}
    return re.sub(r"\{(\w+)\}", lambda match: f"{{{(PATH_NAMES | kinds).get(match[1], match[1])}}}", route)


def filled(template: Any, values: Mapping[str, str]) -> Any:
    """A template with its placeholders replaced, inside objects and lists too."""
    if isinstance(template, str):
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)
    if isinstance(template, Mapping):
        return {name: filled(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    return template


def variants(placeholders: Sequence[str]) -> Iterator[Sequence[str]]:
    """Which placeholders name the other's things: all of them, and each alone beside the caller's own."""
    yield placeholders
    if len(placeholders) > 1:
        yield from ([one] for one in placeholders)


PLAIN = (Call(),)
"""The route as it is."""
LISTED = "limit=100"
_RUN = {"project": "{project}", "commit": "{commit}", "step": "train", "environment": "{environment}"}
_REFERENCES = (Call(), Call(path="/api/v0/executions/{project}:1/"), Call(path="/api/v0/executions/{project}:latest/"))
_STORE = {"bucket": "b", "access_key_id": "k", "secret_access_key": "s", "test_configuration": False}


def _bodies(*bodies: Mapping[str, Any]) -> tuple[Call, ...]:
    return tuple(Call(body=body) for body in bodies)


def _forms(*forms: Mapping[str, str]) -> tuple[Call, ...]:
    return tuple(Call(form=form) for form in forms)


def _queries(*queries: str) -> tuple[Call, ...]:
    return tuple(Call(query=query) for query in ("", *queries))


_CHANGE_PROJECT = _bodies(
    {"name": "other"},
    {"default_environment": "{environment}"},
    {"default_environment": "{environment_id}"},
    {"default_store": "{store}"},
    {"upload_store": "{store}"},
)

_VERSION = {"deployment": "{deployment}", "commit": "{commit}", "endpoint_configurations": {"serve": {}}}
_MODEL = {"endpoint_configurations": {"serve": {"files": {"model": "{datum}"}}}}
_DEPLOYED = "/p/{owner}/{slug}/deployment/{deployment}"
_OWNER = "/api/v1/owners/{owner}"
_GROUP = f"{_OWNER}/environment-variable-groups/{{group}}"

ROWS: dict[str, tuple[Call, ...]] = {
    "GET /openapi.json": PLAIN,
    "GET /api/v0/": PLAIN,
    "GET /api/v0/server/": PLAIN,
    "POST /api/v0/get-token/": _bodies({"username": "{owner}", "password": "wrong horse"}),
    "GET /api/v0/users/me/": PLAIN,
    "GET /api/v0/projects/": _queries("name={slug}", "limit=1"),
    "GET /api/v0/projects/ownership_options/": PLAIN,
    "POST /api/v0/projects/": _bodies(
        {"name": "x y", "owner": "{owner}"},
        {"name": "x y", "owner": "{organization}"},
        {"name": "x y", "owner": "{user}"},
    ),
    "GET /api/v0/projects/{project_id}/": PLAIN,
    "PUT /api/v0/projects/{project_id}/": _CHANGE_PROJECT,
    "PATCH /api/v0/projects/{project_id}/": _CHANGE_PROJECT,
    "DELETE /api/v0/projects/{project_id}/": PLAIN,
    "POST /api/v0/projects/{project_id}/environment_variable/": _bodies({"name": "A", "value": "b"}),
    "DELETE /api/v0/projects/{project_id}/environment_variable/": _bodies({"name": "A"}),
    "GET /api/v0/projects/{project_id}/repository/": PLAIN,
    "PUT /api/v0/projects/{project_id}/repository/": _bodies({"url": "https://git.test/x.git"}),
    "POST /api/v0/projects/{project_id}/fetch/": PLAIN,
    "GET /api/v0/projects/{project_id}/commits/": PLAIN,
    "POST /api/v0/projects/{project_id}/import-package/": PLAIN,
    "GET /api/v0/repositories/": _queries(LISTED),
    "GET /api/v0/commits/": _queries("project={project}", "identifier={commit}", "identifier={branch}"),
    "GET /api/v0/commits/{identifier}/": (
        *_queries("project={project}", "include=config"),
        Call(path="/api/v0/commits/{branch}/", query="project={project}"),
    ),
    "GET /api/v0/environments/": _queries("include=unfinished_job_count", "limit=1"),
    "GET /api/v0/environments/{reference}/": (Call(), Call(path="/api/v0/environments/{environment_id}/")),
    "GET /api/v0/executions/": _queries(
        "project={project}", "commit={commit}", "environment={environment}", "creator={user}", "tags={owner}-run"
    ),
    "POST /api/v0/executions/": _bodies(
        _RUN,
        {**_RUN, "commit": "{branch}"},
        {**_RUN, "environment": "{environment_id}"},
        {**_RUN, "inputs": {"data": ["datum://{datum}"]}},
        {**_RUN, "inputs": {"data": ["datum://{output}"]}},
        {**_RUN, "inputs": {"data": ["datum://{alias_name}"]}},
    ),
    "GET /api/v0/executions/{reference}/": _REFERENCES,
    "PUT /api/v0/executions/{reference}/": _bodies({"title": "x"}),
    "PATCH /api/v0/executions/{reference}/": _bodies({"title": "x"}),
    "DELETE /api/v0/executions/{reference}/": PLAIN,
    "POST /api/v0/executions/{reference}/stop/": PLAIN,
    "POST /api/v0/executions/{reference}/copy/": PLAIN,
    "POST /api/v0/executions/{reference}/tags/": _bodies({"tags": ["x"]}),
    "GET /api/v0/executions/{reference}/outputs/": _queries("include=download_url"),
    "GET /api/v0/executions/{reference}/events/": PLAIN,
    "GET /api/v0/executions/{reference}/status-events/": PLAIN,
    "GET /api/v0/executions/{reference}/log/": PLAIN,
    "GET /api/v0/executions/{reference}/metadata/": PLAIN,
    "GET /api/v1/executions/{reference}/waiting": PLAIN,
    "GET /api/v1/executions/{reference}/attempts/": PLAIN,
    "GET /api/v1/executions/{reference}/usage/": PLAIN,
    "GET /api/v1/projects/{project}/failures/": PLAIN,
    f"GET {_OWNER}/environment-variables": PLAIN,
    f"PUT {_OWNER}/environment-variables/{{name}}": (
        Call(path=f"{_OWNER}/environment-variables/A", body={"value": "x"}),
    ),
    f"DELETE {_OWNER}/environment-variables/{{name}}": (Call(path=f"{_OWNER}/environment-variables/A"),),
    f"GET {_OWNER}/environment-variable-groups": PLAIN,
    f"POST {_OWNER}/environment-variable-groups": _bodies({"name": "more"}),
    f"GET {_GROUP}": PLAIN,
    f"PATCH {_GROUP}": _bodies({"description": "x"}),
    f"DELETE {_GROUP}": PLAIN,
    f"PUT {_GROUP}/environment-variables/{{name}}": (
        Call(path=f"{_GROUP}/environment-variables/A", body={"value": "x"}),
    ),
    f"DELETE {_GROUP}/environment-variables/{{name}}": (Call(path=f"{_GROUP}/environment-variables/A"),),
    "GET /api/v1/admin/health/": PLAIN,
    "POST /api/v0/executions/{execution_id}/set_status_detail/": _bodies({"status_detail": "x"}),
    "POST /request-input-data/": (Call(query="execution={execution}&inputs={datum}"),),
    "GET /api/v0/data/": _queries("project={project}", "output_execution={execution}", "tag={tag}", "name={owner}"),
    "POST /api/v0/data/upload/": _bodies({"project": "{project}", "name": "a.bin", "size": 3}),
    "POST /api/v0/data/upload/{upload_id}/complete/": PLAIN,
    "GET /api/v0/data/{datum_id}/": (Call(), Call(path="/api/v0/data/{output}/")),
    "PATCH /api/v0/data/{datum_id}/": _bodies({"tags": ["x"]}, {}),
    "PUT /api/v0/data/{datum_id}/": _bodies({"tags": ["x"]}, {}),
    "GET /api/v0/data/{datum_id}/download/": (Call(), Call(path="/api/v0/data/{output}/download/")),
    "POST /api/v0/data/{datum_id}/purge/": PLAIN,
    "GET /api/v0/data/{datum_id}/metadata/": PLAIN,
    "POST /api/v0/data/{datum_id}/metadata/": _bodies({"a": 1}),
    "POST /api/v0/data/{datum_id}/tags/": _bodies({"tags": ["x"]}),
    "GET /api/v0/datum-aliases/": _queries("project={project}", "name={alias_name}"),
    "POST /api/v0/datum-aliases/": _bodies({"project": "{project}", "name": "newest", "datum": "{datum}"}),
    "GET /api/v0/datum-aliases/resolve/": (Call(query="project={project}&name={alias_name}"),),
    "GET /api/v0/datum-aliases/{alias_id}/": PLAIN,
    "PUT /api/v0/datum-aliases/{alias_id}/": _bodies({"datum": "{datum}"}),
    "PATCH /api/v0/datum-aliases/{alias_id}/": _bodies({"datum": "{datum}"}),
    "DELETE /api/v0/datum-aliases/{alias_id}/": PLAIN,
    "GET /api/v0/stores/": _queries("project={project}"),
    "POST /api/v0/stores/": _bodies(
        {"name": "s", "type": "s3", "configuration": _STORE, "project": "{project}"},
        {"name": "s", "type": "s3", "configuration": _STORE, "owner": "{user}"},
    ),
    "GET /api/v0/stores/{store_id}/": PLAIN,
    "PUT /api/v0/stores/{store_id}/": _bodies({"name": "x"}, {"configuration": _STORE}),
    "PATCH /api/v0/stores/{store_id}/": _bodies({"name": "x"}, {"configuration": _STORE}),
    "DELETE /api/v0/stores/{store_id}/": PLAIN,
    "GET /api/v0/deployments/": _queries("project={project}", "name={owner}-serving"),
    "POST /api/v0/deployments/": _bodies(
        {"project": "{project}", "name": "more"}, {"project": "{project}", "name": "more", "commit": "{branch}"}
    ),
    "GET /api/v0/deployments/{deployment_id}/": PLAIN,
    "PUT /api/v0/deployments/{deployment_id}/": _bodies({"enabled": False}, {"public": True}),
    "PATCH /api/v0/deployments/{deployment_id}/": _bodies({"enabled": False}, {"public": True}),
    "DELETE /api/v0/deployments/{deployment_id}/": PLAIN,
    "GET /api/v0/deployments/{deployment_id}/suggest_version_name/": PLAIN,
    "GET /api/v0/deployment-versions/": _queries("project={project}", "deployment={deployment}", "name={version_name}"),
    "POST /api/v0/deployment-versions/": _bodies(_VERSION, {**_VERSION, "commit": "{branch}"}, {**_VERSION, **_MODEL}),
    "GET /api/v0/deployment-versions/{version_id}/": PLAIN,
    "PUT /api/v0/deployment-versions/{version_id}/": _bodies({"enabled": False}),
    "PATCH /api/v0/deployment-versions/{version_id}/": _bodies({"enabled": False}),
    "DELETE /api/v0/deployment-versions/{version_id}/": PLAIN,
    "GET /api/v0/deployment-endpoints/{endpoint_id}/": PLAIN,
    "PUT /api/v0/deployment-endpoints/{endpoint_id}/": _bodies({"enabled": False}, {"replicas": 2}),
    "PATCH /api/v0/deployment-endpoints/{endpoint_id}/": _bodies({"enabled": False}, {"replicas": 2}),
    "PATCH /api/v1/deployments/{deployment_id}": _bodies({"public": True}),
    "GET /api/v1/deployments/{deployment_id}/aliases": PLAIN,
    "PUT /api/v1/deployments/{deployment_id}/aliases/{alias_name}": tuple(
        Call(path="/api/v1/deployments/{deployment}/aliases/live", body=body)  # a name that is free is no one's thing
        for body in (
            {"version": "{version}"},
            {"version": "{version_name}"},
            {"version": "{version}", "canary_version": "{version}", "canary_percent": 5},
        )
    ),
    "DELETE /api/v1/deployments/{deployment_id}/aliases/{alias_name}": PLAIN,
    "POST /api/v1/deployments/{deployment_id}/aliases/{alias_name}/rollback": PLAIN,
    "GET /api/v1/deployments/{deployment_id}/alias-moves": _queries("alias={alias_name}"),
    "GET /api/v1/deployments/{deployment_id}/keys": PLAIN,
    "POST /api/v1/deployments/{deployment_id}/keys": _bodies({"consumer": "x"}),
    "DELETE /api/v1/deployments/{deployment_id}/keys/{key_id}": PLAIN,
    "GET /api/v1/deployments/{deployment_id}/metrics": _queries("minutes=5"),
    "GET /api/v1/deployment-targets": PLAIN,
    "POST /api/v1/deployment-targets": _bodies({"name": "x", "kind": "process", "public_url": "http://x.test"}),
    "GET /api/v1/deployment-targets/{target_id}": PLAIN,
    "PATCH /api/v1/deployment-targets/{target_id}": _bodies({"is_default": False}),
    "DELETE /api/v1/deployment-targets/{target_id}": PLAIN,
    "POST /api/v1/deployment-targets/{target_id}/router-token": PLAIN,
    "POST /api/v1/deployment-targets/{target_id}/check": PLAIN,
    "POST /api/v1/deployment-targets/{target_id}/clean-up": PLAIN,
    "POST /api/v1/deployment-versions/{version_id}/rebuild": PLAIN,
    "POST /api/v1/deployment-versions/{version_id}/cancel": PLAIN,
    "GET /api/v1/deployment-endpoints/{endpoint_id}/build-log": _queries("after=1&limit=1"),
    "GET /api/v1/deployment-endpoints/{endpoint_id}/log": _queries("limit=1"),
    "GET /api/v1/deployment-endpoints/{endpoint_id}/metadata": _queries("limit=1"),
    "GET /api/v1/deployment-endpoints/{endpoint_id}/metrics": _queries("minutes=5"),
    "POST /api/v1/deployment-endpoints/{endpoint_id}/test": _bodies({}, {"alias": "{alias_name}"}),
    "GET /api/v1/streams/executions/{execution_id}/log/": PLAIN,
    "GET /api/v1/streams/deployment-endpoints/{endpoint_id}/log/": PLAIN,
    "GET /static/{name}": (Call(path="/static/no-such-file"),),
    "GET /auth/login/": PLAIN,
    "POST /auth/login/": _forms({"username": "{owner}", "password": "wrong horse"}),
    "POST /auth/logout/": (),  # it would end the session of the matrix; the guard of its form is that of all forms
    "GET /auth/tokens/": PLAIN,
    "POST /auth/tokens/": (),  # its answer is a new secret every time, and it names nothing
    "POST /auth/tokens/revoke/": _forms({"id": "{token}"}),
    "GET /": PLAIN,
    "GET /projects/new/": PLAIN,
    "POST /projects/new/": _forms({"name": "x y", "owner": "{owner}"}, {"name": "x y", "owner": "{organization}"}),
    "GET /p/{owner}/{name}/": PLAIN,
    "GET /p/{owner}/{name}/commits/": PLAIN,
    "GET /p/{owner}/{name}/repository/": PLAIN,
    "POST /p/{owner}/{name}/repository/": _forms({"url": "https://git.test/x.git"}),
    "POST /p/{owner}/{name}/fetch/": _forms({}),
    "GET /owners/{owner}/variables/": PLAIN,
    "POST /owners/{owner}/variables/": _forms(
        {"name": "A", "value": "x"}, {"name": "A", "value": "x", "group": "{group}"}
    ),
    "POST /owners/{owner}/variables/delete/": _forms({"name": "A"}, {"name": "A", "group": "{group}"}),
    "POST /owners/{owner}/variables/groups/": _forms({"group_name": "more"}),
    "POST /owners/{owner}/variables/groups/delete/": _forms({"group": "{group}"}),
    "GET /admin/": PLAIN,
    "GET /admin/targets/": PLAIN,
    "POST /admin/targets/": _forms({"name": "x", "kind": "process", "public_url": "http://x.test"}),
    "GET /admin/targets/{target_id}/": PLAIN,
    "POST /admin/targets/{target_id}/": _forms({"public_url": "http://x.test", "settings": "{}"}),
    "POST /admin/targets/{target_id}/default/": _forms({}),
    "POST /admin/targets/{target_id}/check/": _forms({}),
    "POST /admin/targets/{target_id}/clean-up/": _forms({"delete": "1"}),
    "POST /admin/targets/{target_id}/router-token/": _forms({}),
    "POST /admin/targets/{target_id}/delete/": _forms({"force": "1"}),
    "GET /p/{owner}/{name}/variables/": PLAIN,
    "POST /p/{owner}/{name}/variables/": _forms({"name": "A", "value": "x"}),
    "POST /p/{owner}/{name}/variables/delete/": _forms({"name": "A"}),
    "GET /p/{owner}/{name}/commit/{identifier}/": PLAIN,
    "GET /p/{owner}/{name}/commit/{identifier}/run/": PLAIN,
    "POST /p/{owner}/{name}/commit/{identifier}/run/": _forms(
        {"step": "train", "environment": "{environment}"}, {"step": "train", "input:data": "datum://{datum}"}
    ),
    "GET /projects/{project_id}/commits/{identifier}/": PLAIN,
    "GET /p/{owner}/{name}/executions/": PLAIN,
    "GET /p/{owner}/{name}/execution/{execution_id}/": PLAIN,
    "GET /p/{owner}/{name}/execution/{execution_id}/log/": PLAIN,
    "POST /p/{owner}/{name}/execution/{execution_id}/stop/": _forms({}),
    "POST /p/{owner}/{name}/execution/{execution_id}/copy/": _forms({}),
    "GET /p/{owner}/{name}/data/": PLAIN,
    "GET /p/{owner}/{name}/data/{datum_id}/download/": PLAIN,
    "GET /p/{owner}/{name}/deployments/": PLAIN,
    "POST /p/{owner}/{name}/deployments/": _forms({"deployment": "A B"}),
    "GET /p/{owner}/{name}/deployment/{deployment_id}/": PLAIN,
    "POST /p/{owner}/{name}/deployment/{deployment_id}/switch/": _forms({"public": "on"}),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/delete/": _forms({"confirm": "x"}),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/aliases/": _forms(
        {"alias": "a", "version": "{version}"}, {"alias": "a", "version": "{version_name}"}
    ),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/aliases/rollback/": _forms({"alias": "{alias_name}"}),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/aliases/delete/": _forms({"alias": "{alias_name}"}),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/keys/": _forms({"consumer": " "}),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/keys/revoke/": _forms({"key": "{key}"}),
    "GET /p/{owner}/{name}/deployment/{deployment_id}/new-version/": _queries("commit={commit}"),
    "POST /p/{owner}/{name}/deployment/{deployment_id}/new-version/": _forms(
        {"commit": "{commit}", "endpoint:serve": "1", "file:serve:model": "{datum}"}
    ),
    "GET /p/{owner}/{name}/deployment/{deployment_id}/version/{version_id}/": PLAIN,
    "POST /p/{owner}/{name}/deployment/{deployment_id}/version/{version_id}/{action}/": tuple(
        Call(path=f"{_DEPLOYED}/version/{{version}}/{action}/", form={"endpoint": "serve", "replicas": "1"})
        for action in ("disable", "rebuild", "cancel", "delete", "scale", "test")
    ),
    "GET /environments/": PLAIN,
    "GET /api/docs/": PLAIN,
}
"""By method and path of the route; what destroys a caller's own thing is only asked for another's."""

OPEN = frozenset(
    {
        "GET /openapi.json",
        "GET /api/v0/",
        "GET /api/v0/server/",
        "POST /api/v0/get-token/",
        "GET /static/{name}",
        "GET /auth/login/",
        "POST /auth/login/",
        "GET /auth/tokens/",
        "GET /api/docs/",
    }
)
"""Routes that answer anybody."""

ADMINISTRATORS = frozenset(
    {
        "GET /admin/",
        "GET /admin/targets/",
        "GET /admin/targets/{target_id}/",
        "GET /api/v1/admin/health/",
        "GET /api/v1/deployment-targets/{target_id}",
    }
)
"""Routes that do not exist for anybody else."""
