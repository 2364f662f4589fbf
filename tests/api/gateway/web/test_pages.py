"""Every page renders for its owner, is not there for others, and never runs what people wrote."""

import re
from uuid import uuid4

SHA = "c" * 40
BROKEN_SHA = "b" * 40
COMMON = ["/", "/projects/new/", "/environments/", "/api/docs/"]
HOSTILE = re.compile(r"<(script>|img src=x|[biu]>)", re.IGNORECASE)


async def test_every_page_renders_for_its_owner_and_escapes_what_people_wrote(ann, lab):
    for path in [*COMMON, *lab.pages()]:
        text = await ann.get(path)
        assert not HOSTILE.search(text), path
        assert "hunter2" not in text, path
        for tag in re.findall(r"<script[^>]*>", text):
            assert 'src="/static/app.js?v=' in tag, path
        assert not re.search(r"\son[a-z]+=|\sstyle=|javascript:", text), path


async def test_pages_of_a_project_are_not_there_for_others(bob, lab):
    for path in lab.pages():
        text = await bob.get(path, 404)
        assert "Digits" not in text.replace("digits-", ""), path
    download = await bob.http.get(f"{lab.root}data/{lab.datum_id}/download/")
    assert download.status_code == 404


async def test_who_is_not_logged_in_goes_to_the_login_page_and_comes_back(anonymous, lab):
    for path in ["/", "/environments/", *lab.pages()]:
        answer = await anonymous.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login/?next=/"), path
    wanted = await anonymous.get("/p/a/b/executions/?status=error")
    assert wanted.headers["location"] == "/login/?next=/p/a/b/executions/%3Fstatus%3Derror"


async def test_every_form_needs_its_token(ann, lab):
    run = f"{lab.root}execution/{lab.executions['started']}/"
    forms = ["/projects/new/", f"{lab.root}repository/", f"{lab.root}fetch/", f"{lab.root}variables/"]
    forms += [f"{lab.root}variables/delete/", f"{lab.root}commit/{SHA}/run/", f"{run}stop/", f"{run}copy/"]
    for path in forms:
        for token in ({}, {"csrf_token": "0" * 64}):
            answer = await ann.http.post(path, data={"name": "x", "url": "https://x.test/y", "step": "train", **token})
            assert answer.status_code == 403, path
            assert "out of date" in answer.text, path
    assert "https://x.test/y" not in await ann.get(f"{lab.root}repository/")


async def test_pages_forbid_foreign_code_and_framing(ann, lab):
    answer = await ann.http.get(lab.root)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"


async def test_addresses_of_the_api_are_pages(ann, lab, context):
    api = (await ann.http.get(f"/api/v0/projects/{lab.project_id}/")).json()
    found = [api["urls"]["display"], api["urls"]["display_repository"]]
    executions = (await ann.http.get("/api/v0/executions/")).json()["results"]
    commits = (await ann.http.get(f"/api/v0/commits/?project={lab.project_id}")).json()["results"]
    found += [one["urls"]["display"] for one in [*executions, *commits]]
    assert len(found) == 2 + 6 + 2
    for address in found:
        answer = await ann.http.get(address, follow_redirects=True)
        assert answer.status_code == 200, address
        assert str(answer.url).startswith(f"http://slipway.test{lab.root}")


async def test_the_commit_page_shows_steps_or_the_problem_with_line_and_hint(ann, lab):
    good = await ann.get(f"{lab.root}commit/{SHA}/")
    assert "Step train" in good
    assert "learning_rate" in good
    bad = await ann.get(f"{lab.root}commit/{BROKEN_SHA}/")
    assert "valohai.yaml, line 7:" in bad
    assert "Add image: to the step." in bad
    assert (await ann.get(f"{lab.root}commit/main/")).count("Step train") == 1


async def test_an_execution_says_why_it_waits_how_it_ended_and_what_to_do(ann, lab):
    queued = await ann.get(f"{lab.root}execution/{lab.executions['queued']}/")
    assert "number 1 of 1" in queued
    assert f"/api/v1/streams/executions/{lab.executions['queued']}/log/" in queued
    failed = await ann.get(f"{lab.root}execution/{lab.executions['error']}/")
    assert "The last command ended with a non-zero exit code.</strong> Exit code 3." in failed
    assert "Read the last lines of the log" in failed
    assert "stop/" not in failed
    complete = await ann.get(f"{lab.root}execution/{lab.executions['complete']}/")
    assert complete.count("<polyline points=") == 3
    assert "accuracy: 39 values from 0.2 to 0.979487" in complete
    assert f"data/{lab.datum_id}/download/" in complete
    assert "secret" in complete


async def test_an_execution_is_found_only_in_its_project(ann, lab):
    answer = await ann.send("/projects/new/", name="second")
    assert answer.headers["location"] == "/p/ann/second/"
    execution = lab.executions["complete"]
    await ann.get(f"/p/ann/second/execution/{execution}/", 404)
    assert (await ann.http.get(f"/p/ann/second/data/{lab.datum_id}/download/")).status_code == 404
    for nonsense in (uuid4(), "x", "0"):
        await ann.get(f"{lab.root}execution/{nonsense}/", 404)


async def test_the_executions_list_is_filtered(ann, lab):
    def rows(text: str) -> int:
        return text.count('<td class="num"><a ')

    assert rows(await ann.get(f"{lab.root}executions/")) == 6
    assert rows(await ann.get(f"{lab.root}executions/?status=incomplete")) == 2
    assert rows(await ann.get(f"{lab.root}executions/?status=error&mine=1&step=train&tag=nightly")) == 1
    assert "No execution fits" in await ann.get(f"{lab.root}executions/?step=nothing")
    await ann.get(f"{lab.root}executions/?offset=-1", 400)


async def test_files_are_found_by_name_and_downloaded_from_a_signed_address(ann, lab):
    assert "No file fits" in await ann.get(f"{lab.root}data/?search=zzz")
    assert "No file fits" in await ann.get(f"{lab.root}data/?tag=worst")
    assert str(lab.datum_id) in await ann.get(f"{lab.root}data/?search=MODEL")
    answer = await ann.http.get(f"{lab.root}data/{lab.datum_id}/download/")
    assert answer.status_code == 303
    assert (await ann.http.get(answer.headers["location"])).content == b"weights"


async def test_the_raw_log_is_text_whatever_it_holds(ann, lab):
    answer = await ann.http.get(f"{lab.root}execution/{lab.executions['complete']}/log/")
    assert answer.text == "<script>alert(1)</script>\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_environments_show_their_workers(ann, lab):
    text = await ann.get("/environments/")
    assert "worker-1" in text
    assert "status-draining" in text
    assert "3 / 4" in text
    assert "16.0 GiB" in text


async def test_api_docs_list_the_routes_without_a_login(anonymous):
    answer = await anonymous.get("/api/docs/")
    assert answer.status_code == 200
    assert "/api/v0/executions/{reference}/stop/" in answer.text
    assert "learning" not in answer.text
    assert (await anonymous.get("/openapi.json")).json()["paths"]
    assert (await anonymous.get("/docs")).status_code == 404


async def test_static_files_are_kept_while_their_content_is_the_same(anonymous, ann):
    address = re.search(r'href="(/static/app\.css\?v=[0-9a-f]+)"', await ann.get("/"))
    assert address is not None
    answer = await anonymous.get(address[1])
    assert "immutable" in answer.headers["cache-control"]
    assert "immutable" not in (await anonymous.get("/static/app.css?v=old")).headers["cache-control"]
    etag = {"If-None-Match": answer.headers["etag"]}
    assert (await anonymous.get(address[1], headers=etag)).status_code == 304
    for missing in ("/static/none.css", "/static/..%2f__init__.py", "/static/__init__.py"):
        assert (await anonymous.get(missing)).status_code == 404


async def test_errors_are_pages_for_browsers_and_json_for_the_api(ann, anonymous):
    assert "Not found" in await ann.get("/nothing/here/", 404)
    assert (await ann.http.get("/api/v0/nothing/")).json()["code"] == "not_found"
    refused = await anonymous.get("/api/v0/projects/")
    assert refused.status_code == 401


async def test_a_crash_becomes_a_page_with_the_request_id(ann, lab, execute):
    await execute("UPDATE scheduler.executions SET spec = '{}' WHERE id = $1", lab.executions["complete"])
    answer = await ann.http.get(f"{lab.root}execution/{lab.executions['complete']}/")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "Traceback" not in answer.text


async def test_empty_places_say_what_to_do_next(ann):
    assert "vh project create" in await ann.get("/")
    await ann.send("/projects/new/", name="It's empty")
    root = "/p/ann/it-s-empty/"
    overview = await ann.get(root)
    assert "vh project link &#39;It&#39;&#34;&#39;&#34;&#39;s empty&#39;" in overview
    for place in ("executions/", "commits/", "data/", "repository/", "variables/"):
        assert '<div class="command"><code>vh ' in await ann.get(root + place), place
    assert "<code>vh environments</code>" in await ann.get("/environments/")
