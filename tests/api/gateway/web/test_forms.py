"""Forms do what the API does, and show again what was wrong."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SHA = "c" * 40


async def test_a_project_is_made_or_the_form_comes_back_with_the_problem(ann):
    made = await ann.send("/projects/new/", name="Lab", description="d", yaml_path="ml/valohai.yaml")
    assert made.status_code == 303
    assert made.headers["location"] == "/p/ann/lab/"
    again = await ann.send("/projects/new/", name="Lab", description="kept", yaml_path="valohai.yaml")
    assert again.status_code == 400
    assert "already has a project named" in again.text
    assert 'value="kept"' in again.text
    assert 'aria-invalid="true"' in again.text


async def test_variables_are_set_masked_and_deleted(ann, lab):
    page = f"{lab.root}variables/"
    assert (await ann.send(page, name="TOKEN", value="t0p-s3cret", secret="1")).status_code == 303
    text = await ann.get(page)
    assert "TOKEN" in text
    assert "t0p-s3cret" not in text
    wrong = await ann.send(page, name="1 bad", value="t0p-s3cret", secret="1")
    assert wrong.status_code == 400
    assert "starts with a letter" in wrong.text
    assert "t0p-s3cret" not in wrong.text
    assert (await ann.send(page, f"{page}delete/", name="TOKEN")).status_code == 303
    assert "TOKEN" not in await ann.get(page)


async def test_variables_of_an_owner_and_groups_are_set_masked_and_deleted(ann, lab):
    page = "/owners/ann/variables/"
    assert page in await ann.get(f"{lab.root}variables/")
    assert (await ann.send(page, f"{page}groups/", group_name="Cloud", description="All of it")).status_code == 303
    twice = await ann.send(page, f"{page}groups/", group_name="cloud")
    assert (twice.status_code, "a group named" in twice.text) == (400, True)
    text = await ann.get(page)
    group = re.search(r'name="group" value="([0-9a-f-]{36})"', text)[1]
    assert (await ann.send(page, name="EVERYWHERE", value="plain-value")).status_code == 303
    assert (await ann.send(page, name="TOKEN", value="t0p-s3cret", secret="1", group=group)).status_code == 303
    text = await ann.get(page)
    assert "plain-value" in text
    assert "TOKEN" in text
    assert "t0p-s3cret" not in text
    wrong = await ann.send(page, name="1 bad", value="t0p-s3cret", secret="1", group=group)
    assert (wrong.status_code, "starts with a letter" in wrong.text) == (400, True)
    assert "t0p-s3cret" not in wrong.text
    assert (await ann.send(page, f"{page}delete/", name="TOKEN", group=group)).status_code == 303
    assert (await ann.send(page, f"{page}delete/", name="EVERYWHERE", group="")).status_code == 303
    assert (await ann.send(page, f"{page}groups/delete/", group=group)).status_code == 303
    assert "Cloud" not in await ann.get(page)


async def test_an_ssh_repository_shows_its_deploy_key_and_never_a_token(ann, lab):
    page = f"{lab.root}repository/"
    wrong = await ann.send(page, url="ext::sh -c id")
    assert wrong.status_code == 400
    assert (await ann.send(page, url="git@git.example.com:team/x.git")).status_code == 303
    assert "ssh-ed25519 " in await ann.get(page)
    assert "ssh-ed25519 " in await ann.get(lab.root)
    assert (await ann.send(page, url="https://git.example.com/x.git", token="ghp-token")).status_code == 303
    assert "ghp-token" not in await ann.get(page)


async def test_a_fetch_says_what_is_new_or_what_is_wrong(ann, context, tmp_path: Path):
    await ann.send("/projects/new/", name="lab")
    page = "/p/ann/lab/repository/"
    unlinked = await ann.send(page, "/p/ann/lab/fetch/")
    assert "The fetch met a problem" in unlinked.text
    await ann.send(page, url=str(tmp_path / "repositories" / "missing"))
    assert "The fetch met" in (await ann.send(page, "/p/ann/lab/fetch/")).text


async def test_a_run_takes_the_values_of_the_form(ann, lab):
    page = f"{lab.root}commit/{SHA}/run/"
    answer = await ann.send(
        page,
        **{
            "step": "train",
            "parameter:learning_rate": "0.5",
            "parameter:optimizer": "sgd",
            "parameter:layers": "8\r\n4\r\n",
            "parameter:verbose": "true",
            "input:data": "https://a.test/1\r\nhttps://a.test/2",
            "title": "A try",
            "tags": "one, two",
            "environment": "local",
        },
    )
    assert answer.status_code == 303, answer.text
    execution = answer.headers["location"].split("/")[-2]
    got = (await ann.http.get(f"/api/v0/executions/{execution}/")).json()
    assert got["parameters"] == {"learning_rate": 0.5, "optimizer": "sgd", "layers": [8, 4], "verbose": True}
    assert [one["original_urls"] for one in got["inputs"]] == [["https://a.test/1", "https://a.test/2"]]
    assert got["title"] == "A try"
    assert got["tags"] == ["one", "two"]
    assert "A try" in await ann.get(answer.headers["location"])


async def test_a_run_that_is_refused_shows_every_problem_and_keeps_what_was_typed(ann, lab):
    page = f"{lab.root}commit/{SHA}/run/"
    answer = await ann.send(
        page, **{"step": "train", "parameter:learning_rate": "7", "title": "t" * 300, "tags": "kept"}
    )
    assert answer.status_code == 400
    assert 'value="kept"' in answer.text
    answer = await ann.send(page, **{"step": "train", "parameter:learning_rate": "7", "environment": "local"})
    assert answer.status_code == 400
    assert "greater than the maximum allowed" in answer.text
    assert 'value="7"' in answer.text
    answer = await ann.send(page, step="train", environment="moon")
    assert answer.status_code == 400
    assert "There is no environment" in answer.text
    assert (await ann.send(page, step="nothing")).status_code == 404


async def test_stop_and_run_again(ann, lab):
    queued = f"{lab.root}execution/{lab.executions['queued']}/"
    stopped = await ann.send(queued, f"{queued}stop/")
    assert stopped.headers["location"] == queued
    assert "Stopped by a user." in await ann.get(queued)
    copied = await ann.send(queued, f"{queued}copy/")
    assert copied.status_code == 303
    assert copied.headers["location"] != queued
    assert "#7" in await ann.get(copied.headers["location"])


async def test_a_login_link_from_a_form_does_not_repeat_the_form(anonymous, lab):
    answer = await anonymous.post(f"{lab.root}fetch/", data={})
    assert answer.status_code == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query) == {}
