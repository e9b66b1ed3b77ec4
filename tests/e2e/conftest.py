import pytest
from weir_server import Server

SERVED_NAMES = ["qwen3.5", "weir-tiny"]


@pytest.fixture(scope="session")
def server():
    """One server for the whole session, as a user would have it. It must survive every test and end cleanly."""
    with Server("--served-model-name", *SERVED_NAMES, "--reasoning-parser", "qwen3") as running:
        yield running
        assert running.alive(), running.log[-4000:]
        running.wait_idle()


@pytest.fixture(autouse=True)
def server_stays_alive(request):
    if "server" in request.fixturenames and not request.getfixturevalue("server").alive():
        pytest.fail("the server died in an earlier test")
    yield
    if "server" in request.fixturenames:
        running = request.getfixturevalue("server")
        assert running.alive(), f"the server did not survive this test:\n{running.log[-4000:]}"
