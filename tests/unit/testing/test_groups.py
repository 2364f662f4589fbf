"""The plugin's own rules, seen from outside: pytest runs in a subprocess on a small tree."""

import pytest

pytest_plugins = ["pytester"]

KUBERNETES_TEST = """
    import pytest

    @pytest.mark.kubernetes
    def test_one():
        pass

    @pytest.mark.kubernetes
    def test_two():
        pass

    def test_other():
        pass
"""


@pytest.fixture
def small_tree(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("SLIPWAY_TEST_KUBECONFIG", raising=False)
    monkeypatch.delenv("SLIPWAY_TEST_REQUIRE", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    unused = '"-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:valkey"'  # slow to import
    pytester.makepyprojecttoml(
        f'[tool.pytest.ini_options]\naddopts = ["--strict-markers", {unused}]\nasyncio_mode = "auto"'
    )
    return pytester


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_an_absent_need_skips_and_is_summed_up(small_tree: pytest.Pytester, workers: tuple[str, ...]) -> None:
    small_tree.makepyfile(KUBERNETES_TEST)
    result = small_tree.runpytest_subprocess(*workers)
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["*groups that did not run*", "kubernetes: 2 tests skipped: no cluster is named; set SLIPWAY_TEST_KUBECONFIG*"]
    )


def test_a_required_group_fails_instead(small_tree: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_REQUIRE", "bwrap, kubernetes")
    small_tree.makepyfile(KUBERNETES_TEST)
    result = small_tree.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*group kubernetes is required by SLIPWAY_TEST_REQUIRE, but no cluster is named*"])
    result.stdout.no_fnmatch_line("*groups that did not run*")


def test_a_present_need_runs(small_tree: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_KUBECONFIG", "/anywhere")
    small_tree.makepyfile(KUBERNETES_TEST)
    result = small_tree.runpytest_subprocess()
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*groups that did not run*")


def test_an_unknown_group_is_refused(small_tree: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_REQUIRE", "dokcer")
    small_tree.makepyfile(KUBERNETES_TEST)
    result = small_tree.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*SLIPWAY_TEST_REQUIRE names dokcer; the groups are docker, s3*"])


SOCKET_TEST = """
    import asyncio
    import socket

    import pytest

    def reach(listener):
        with socket.socket() as client:
            client.connect(listener.getsockname())

    @pytest.fixture
    def listener():
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield server

    def test_plain(listener):
        reach(listener)

    async def test_asyncio(listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.close()

    @pytest.mark.sockets
    def test_marked(listener):
        reach(listener)

    def test_unix():
        one, other = socket.socketpair()
        one.close()
        other.close()
"""


@pytest.mark.parametrize(("tier", "failed"), [("unit", 2), ("property", 2), ("api", 0)])
def test_quiet_tiers_reach_no_network(small_tree: pytest.Pytester, tier: str, failed: int) -> None:
    folder = small_tree.mkpydir("tests") / tier
    folder.mkdir()
    folder.joinpath("test_net.py").write_text("\n".join(line[4:] for line in SOCKET_TEST.splitlines()))
    result = small_tree.runpytest_subprocess()
    result.assert_outcomes(passed=4 - failed, failed=failed)
    if failed:
        result.stdout.fnmatch_lines(["*SocketBlockedError*connects to*127.0.0.1*"])


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
@pytest.mark.parametrize(("expected", "code"), [("kubernetes", 0), ("", 1), ("kubernetes,docker", 1)])
def test_the_skipped_groups_can_be_asserted(
    small_tree: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...], expected: str, code: int
) -> None:
    monkeypatch.setenv("SLIPWAY_TEST_EXPECT_SKIPS", expected)
    small_tree.makepyfile(KUBERNETES_TEST)
    result = small_tree.runpytest_subprocess(*workers)
    assert result.ret == code
    wrong = ["*the skipped groups are not the expected ones*", "expected: *; skipped: kubernetes"]
    if code:
        result.stdout.fnmatch_lines(wrong)
    else:
        result.stdout.no_fnmatch_line(wrong[0])
