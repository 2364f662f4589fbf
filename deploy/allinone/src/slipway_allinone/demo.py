"""`slipway demo`: the main job of the platform, shown with the real `vh` command."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from slipway_allinone.home import Home
from slipway_allinone.provision import Credentials
from slipway_kit.http import OutsideError, outside_client

CLIENT = "valohai-cli==0.37.0"
PROJECT = "quickstart"
SAMPLE = Path(__file__).parents[4] / "examples" / "quickstart"
_COMMAND_SECONDS = 900.0


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
        self._print_end(credentials, project, model, counter)

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

    async def _api(self, credentials: Credentials, method: str, path: str) -> dict[str, Any]:
        async with outside_client(timeout=30) as client:
            answer = await client.request(method, credentials.url + path, headers=_token(credentials))
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

    def _print_end(self, credentials: Credentials, project: Path, model: Path, counter: str) -> None:
        _headline("Done")
        typer.echo(f"The model file: {model} ({model.stat().st_size:,} bytes)")
        typer.echo(f"The execution:  {credentials.url}/p/{credentials.username}/{PROJECT}/")
        typer.echo("")
        typer.echo("What to try next:")
        typer.echo(f"  open {credentials.url} and log in as {credentials.username} with {credentials.password}")
        typer.echo(f"  export VALOHAI_CONFIG_DIR={self._client_config} PATH={self._client.parent}:$PATH")
        typer.echo(f"  cd {project}")
        typer.echo("  vh exec run train --adhoc --trees=300 --max-depth=12 --measurements=datum://<id of bottles.csv>")
        typer.echo(f"  vh exec list; vh exec info {counter}")
        typer.echo("  edit train.py and run it again: only what changed is uploaded")


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
