"""`slipway demo`: the main job of the platform, shown with the real `vh` command."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from slipway_allinone.home import Home
from slipway_allinone.provision import Credentials
from slipway_kit.http import OutsideError, outside_client

CLIENT = "valohai-cli==0.37.0"
PROJECT = "quickstart"
SAMPLE_IMAGE = "python:3.12-slim"
DEPLOYMENT = "taste"
ENDPOINT = "predict"
ALIAS = "production"
BOTTLE = {"alcohol": 12.1, "acidity": 3.2, "sulphates": 0.6, "colour": 8.3}
SAMPLE = Path(__file__).parents[4] / "examples" / "quickstart"
_COMMAND_SECONDS = 900.0
_START_SECONDS = 90.0


@dataclass(frozen=True)
class _Served:
    """The endpoint that the demo leaves behind."""

    deployment: str
    version: str
    url: str
    key: str


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Demo:
    """Runs the sample project on the platform of a home."""

    def __init__(self, home: Home, image: str) -> None:
        self._home = home
        self._image = image
        self._folder = home.root / "demo"

    async def platform_answers(self) -> bool:
        """Whether the platform of this home is up."""
        credentials = Credentials.load(self._home)
        if credentials is None:
            return False
        try:
            async with outside_client(timeout=3) as client:
                answer = await client.get(f"{credentials.url}/api/v0/users/me/", headers=_token(credentials))
        except OutsideError:
            return False
        return answer.status_code == 200

    async def run(self, stopping: asyncio.Event) -> None:
        """The whole story. Ends early, without an error, when the platform is told to stop."""
        story = asyncio.create_task(self._tell(), name="demo")
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([story, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not story.done():
            story.cancel()
            return
        story.result()

    async def _tell(self) -> None:
        credentials = Credentials.load(self._home)
        if credentials is None:
            raise DemoError(f"{self._home.credentials} is missing; start the platform again.")
        _headline("The client: vh, as its users know it")
        await self._install_client()
        project = self._copy_sample()
        self._client_config.mkdir(exist_ok=True)
        _headline("Log in and make a project")
        await self._vh(project, "login", "--host", credentials.url, "--token", credentials.token, "--yes", secret=True)
        project_id = await self._project(project, credentials)
        _headline("Upload the data")
        datum = await self._upload(credentials, project_id, project / "bottles.csv")
        typer.echo(f"bottles.csv is now datum://{datum}")
        _headline("Run the step 'train' on it, with two parameters")
        ran = await self._vh(
            project,
            *("exec", "run", "train", "--adhoc", "--image", self._image),
            *("--trees=60", "--max-depth=6", f"--measurements=datum://{datum}", "--tag", "demo"),
        )
        found = re.search(r"#(\d+)", ran)
        if found is None:
            raise DemoError("vh did not say which execution it started; its output is above.")
        counter = found.group(1)
        _headline("Its log, live")
        await self._vh(project, "exec", "logs", counter, "--stream")
        await self._check(credentials, project_id, counter)
        _headline("What it measured")
        await self._vh(project, "exec", "summarize", counter)
        _headline("The model it made")
        outputs = self._folder / "outputs"
        await asyncio.to_thread(shutil.rmtree, outputs, ignore_errors=True)
        await self._vh(project, "exec", "outputs", counter, "--download", str(outputs))
        model = outputs / "model.pkl"
        if not model.is_file():
            raise DemoError(f"The model was not downloaded to {model}.")
        served = await self._deploy(credentials, project, project_id, counter)
        self._print_end(credentials, project, model, counter, served)

    async def _deploy(self, credentials: Credentials, project: Path, project_id: str, counter: str) -> _Served:
        """The model as an endpoint: deployment, version, key and alias, and a prediction by each address."""
        _headline("Serve the model: a deployment, and a version of it with this model inside")
        deployment = await self._deployment(credentials, project_id)
        datum = await self._model_datum(credentials, project_id, counter)
        before = {one["id"] for one in await self._versions(credentials, deployment)}
        await self._vh(
            project,
            *("deployment", "create-version", "--adhoc", "-d", DEPLOYMENT),
            *("-e", ENDPOINT, f"--{ENDPOINT}-model=datum://{datum}"),
        )
        version = next((one for one in await self._versions(credentials, deployment) if one["id"] not in before), None)
        if version is None:
            raise DemoError("vh did not create a version; its output is above.")
        await self._until_available(credentials, version["id"])
        url = version["endpoint_urls"][ENDPOINT]
        _headline("Ask it, by the version's own address")
        path = f"/api/v1/deployments/{deployment}"
        key = (await self._api(credentials, "POST", f"{path}/keys", {"consumer": "demo"}))["key"]
        await self._predict(url, key)
        _headline("Name the version 'production' and ask by that name: it can be moved, the address stays")
        moved = await self._api(credentials, "PUT", f"{path}/aliases/{ALIAS}", {"version": version["name"]})
        alias_url = url.replace(f"/{version['name']}/", f"/{ALIAS}/")
        typer.echo(f"{ALIAS} now means {version['name']}; the router had it after {moved['confirmed_ms']:.1f} ms.")
        await self._predict(alias_url, key)
        return _Served(deployment, version["name"], alias_url, key)

    async def _deployment(self, credentials: Credentials, project_id: str) -> str:
        listed = await self._api(credentials, "GET", f"/api/v0/deployments/?project={project_id}")
        known = next((one for one in listed["results"] if one["name"] == DEPLOYMENT), None)
        if known is None:
            wanted = {"project": project_id, "name": DEPLOYMENT}
            known = await self._api(credentials, "POST", "/api/v0/deployments/", wanted)
        return str(known["id"])

    async def _versions(self, credentials: Credentials, deployment: str) -> list[dict[str, Any]]:
        listed = await self._api(credentials, "GET", f"/api/v0/deployment-versions/?deployment={deployment}&limit=1000")
        found: list[dict[str, Any]] = listed["results"]
        return found

    async def _model_datum(self, credentials: Credentials, project_id: str, counter: str) -> str:
        execution = await self._api(credentials, "GET", f"/api/v0/executions/{project_id}:{counter}/")
        outputs = await self._api(credentials, "GET", f"/api/v0/data/?output_execution={execution['id']}")
        found = next((one for one in outputs["results"] if one["name"] == "model.pkl"), None)
        if found is None:
            raise DemoError("The execution has no output named model.pkl.")
        return str(found["id"])

    async def _until_available(self, credentials: Credentials, version_id: str) -> None:
        said, since = "", asyncio.get_running_loop().time()
        async with asyncio.timeout(_COMMAND_SECONDS):
            while True:
                version = await self._api(credentials, "GET", f"/api/v0/deployment-versions/{version_id}/")
                (endpoint,) = version["endpoints"]
                words = f"{endpoint['status']}: {endpoint['status_detail']}"
                if words != said:
                    typer.echo(words)
                    said, since = words, asyncio.get_running_loop().time()
                if endpoint["status"] == "AVAILABLE":
                    return
                # On a busy machine a server may take longer to start than its status has patience.
                over = asyncio.get_running_loop().time() - since > _START_SECONDS
                if endpoint["status"] == "BUILD_FAILED" or (endpoint["status"] == "UNAVAILABLE" and over):
                    raise DemoError(f"The endpoint does not serve: {endpoint['status_detail']}")
                await asyncio.sleep(0.25)

    async def _predict(self, url: str, key: str) -> None:
        body = json.dumps(BOTTLE)
        typer.secho(f"$ curl {url} -H 'Authorization: Bearer ...' --json '{body}'", bold=True)
        async with outside_client(timeout=30) as client:
            answer = await client.post(
                url, headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"}, content=body
            )
        typer.echo(answer.text)
        if answer.status_code != 200:
            raise DemoError(f"The endpoint answered {answer.status_code}.")

    async def _install_client(self) -> None:
        if self._client.exists():
            return
        uv = Path(sys.executable).with_name("uv")
        venv = self._folder / "vh"
        typer.echo(f"Installing {CLIENT} into {venv} ...")
        await _checked([str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
        await _checked([str(uv), "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), CLIENT])

    @property
    def _client_config(self) -> Path:
        return self._folder / "vh-config"

    @property
    def _client(self) -> Path:
        return self._folder / "vh" / "bin" / "vh"

    def _copy_sample(self) -> Path:
        if not SAMPLE.is_dir():
            raise DemoError(f"The sample project is not at {SAMPLE}; run the demo from a checkout.")
        target = self._folder / PROJECT
        shutil.copytree(SAMPLE, target, dirs_exist_ok=True)
        description = target / "valohai.yaml"
        description.write_text(description.read_text().replace(SAMPLE_IMAGE, self._image))
        typer.echo(f"The sample project is in {target}")
        return target

    async def _project(self, folder: Path, credentials: Credentials) -> str:
        listed = await self._api(credentials, "GET", "/api/v0/projects/?limit=1000")
        existing = next(
            (
                one
                for one in listed["results"]
                if one["name"] == PROJECT and one["owner"]["username"] == credentials.username
            ),
            None,
        )
        if existing is not None:
            await self._vh(folder, "project", "link", existing["id"], "--yes")
            return str(existing["id"])
        await self._vh(folder, "project", "create", "--name", PROJECT, "--owner", credentials.username, "--yes")
        return await self._project_id(credentials)

    async def _project_id(self, credentials: Credentials) -> str:
        listed = await self._api(credentials, "GET", "/api/v0/projects/?limit=1000")
        return next(str(one["id"]) for one in listed["results"] if one["name"] == PROJECT)

    async def _upload(self, credentials: Credentials, project_id: str, file: Path) -> str:
        async with outside_client(timeout=60) as client:
            answer = await client.post(
                f"{credentials.url}/api/v0/data/upload/",
                headers=_token(credentials),
                data={"project": project_id, "name": file.name},
                files={"file": (file.name, file.read_bytes())},
            )
        if answer.status_code != 201:
            raise DemoError(f"The upload was refused: {answer.text}")
        return str(answer.json()["id"])

    async def _check(self, credentials: Credentials, project_id: str, counter: str) -> None:
        execution = await self._api(credentials, "GET", f"/api/v0/executions/{project_id}:{counter}/")
        if execution["status"] != "complete":
            raise DemoError(
                f"Execution #{counter} ended as {execution['status']}; its log is above and at "
                f"{execution['urls']['display']}."
            )

    async def _api(self, credentials: Credentials, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with outside_client(timeout=30) as client:
            answer = await client.request(method, credentials.url + path, headers=_token(credentials), json=body)
        if answer.status_code >= 400:
            raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    async def _vh(self, folder: Path, *arguments: str, secret: bool = False) -> str:
        shown = ["vh", *arguments]
        if secret:
            shown[shown.index("--token") + 1] = "..."
        typer.secho(f"$ {' '.join(shown)}", bold=True)
        # vh keeps its login in a folder of its own here: the user's is not touched.
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VALOHAI_")},
            "VALOHAI_CONFIG_DIR": str(self._client_config),
        }
        return await _streamed([str(self._client), *arguments], cwd=folder, environment=environment)

    def _print_end(self, credentials: Credentials, project: Path, model: Path, counter: str, served: _Served) -> None:
        _headline("Done")
        typer.echo(f"The model file: {model} ({model.stat().st_size:,} bytes)")
        typer.echo(f"The execution:  {credentials.url}/p/{credentials.username}/{PROJECT}/")
        typer.echo(f"The endpoint:   {served.url} (version {served.version})")
        typer.echo(f"Its key:        {served.key}")
        typer.echo("")
        typer.echo("What to try next:")
        typer.echo(f"  open {credentials.url} and log in as {credentials.username} with {credentials.password}")
        typer.echo(f"  export VALOHAI_CONFIG_DIR={self._client_config} PATH={self._client.parent}:$PATH")
        typer.echo(f"  cd {project}")
        typer.echo("  vh exec run train --adhoc --trees=300 --max-depth=12 --measurements=datum://<id of bottles.csv>")
        typer.echo(f"  vh exec list; vh exec info {counter}")
        typer.echo("  edit train.py and run it again: only what changed is uploaded")
        typer.echo(f"  curl {served.url} -H 'Authorization: Bearer {served.key}' --json '{json.dumps(BOTTLE)}'")
        typer.echo(
            f"  vh deployment create-version --adhoc -d {DEPLOYMENT} -e {ENDPOINT} --{ENDPOINT}-model=datum://<id>"
        )


def _token(credentials: Credentials) -> dict[str, str]:
    return {"Authorization": f"Token {credentials.token}"}


def _headline(text: str) -> None:
    typer.echo("")
    typer.secho(f"== {text}", fg=typer.colors.CYAN)


async def _checked(command: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise DemoError(f"{' '.join(command)} failed:\n{output.decode(errors='replace')}")


async def _streamed(command: Sequence[str], *, cwd: Path, environment: dict[str, str]) -> str:
    """Run a command, show what it prints as it prints it, and return that. Raises `DemoError` when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    if process.stdout is None:
        raise DemoError("The command has no output to read.")
    lines: list[str] = []
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            async for line in process.stdout:
                text = line.decode(errors="replace")
                typer.echo(text, nl=False)
                lines.append(text)
            code = await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    if code != 0:
        raise DemoError(f"{Path(command[0]).name} {' '.join(command[1:3])} ended with exit code {code}.")
    return "".join(lines)
