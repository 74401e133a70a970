"""The admin API against its contract, over a socket: every route, every status that it promises."""

from dataclasses import replace

import pytest
import pytest_twisted
from fakes import wire
from fakes.admin import TOKEN, AdminStage
from twisted.internet.threads import deferToThread

from gemproxy.core.errors import ConfigError, Fault
from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.outcome import Verdict

OPERATIONS = ["enable", "disable", "reset"]


class Admin:
    """The admin API on a port of its own, in this process."""

    def __init__(self, reactor):
        self.stage = AdminStage(reactor)
        self._port = reactor.listenTCP(0, self.stage.site, interface="127.0.0.1")
        self.host, self.port = "127.0.0.1", self._port.getHost().port

    def ask(self, method, path, body=None, *, token=TOKEN):
        """One request on a connection of its own."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return deferToThread(wire.ask, self, method, path, body, **headers)

    def stop(self):
        pytest_twisted.blockon(self._port.stopListening())


@pytest.fixture
def admin():
    from twisted.internet import reactor

    running = Admin(reactor)
    yield running
    running.stop()


@pytest_twisted.ensureDeferred
async def test_every_route_of_the_contract_asks_for_the_token(admin, contract, fits):
    for route, methods in contract["paths"].items():
        path = route.replace("{keyId}", "alpha").replace("{requestId}", "req_1")
        for method in methods.keys() - {"parameters"}:
            answer = await admin.ask(method.upper(), path, {"weight": 1}, token=None)
            assert answer.status == 401
            fits(answer, route, method)


@pytest_twisted.ensureDeferred
async def test_every_route_of_the_contract_is_served(admin, contract, fits):
    for route, methods in contract["paths"].items():
        path = route.replace("{keyId}", "alpha").replace("{requestId}", "req_1")
        for method in methods.keys() - {"parameters"}:
            answer = await admin.ask(
                method.upper(), path, {"weight": 1} if method == "put" else None
            )
            assert answer.status == 200
            fits(answer, route, method)


@pytest_twisted.ensureDeferred
async def test_the_health_of_a_service_in_trouble(admin, fits):
    stage = admin.stage
    stage.break_key("alpha")
    now = stage.clock.seconds()
    for _ in range(2):
        stage.models.record(stage.models.acquire("gemini-3.8-flash", now), False, now)
    stage.set(
        draining=True,
        region_refused=True,
        persistence=StoreStatus("none", None, "disk full", now, now),
        config=replace(stage.service.config, last_error="keys.yaml:7: no"),
    )
    answer = await admin.ask("GET", "/admin/health")
    fits(answer, "/admin/health")
    assert answer.json["status"] == "degraded"
    assert len(answer.json["reasons"]) == 6
    assert answer.json["models"][0]["status"] == "unavailable"


@pytest_twisted.ensureDeferred
async def test_keys_in_every_state(admin, fits):
    stage = admin.stage
    soon = stage.clock.seconds() + 3600
    stage.break_key("alpha")
    stage.let("beta", Verdict.QUOTA_DAY, status=429, until=soon, message="Quota.")
    stage.let("gamma", Verdict.QUOTA_MINUTE, status=429, retry_after=30.0)
    stage.pool.disable("gamma")
    answer = await admin.ask("GET", "/admin/keys")
    fits(answer, "/admin/keys")
    states = [key["status"] for key in answer.json["keys"]]
    assert states == ["circuit_open", "active", "disabled"]
    assert [len(key["cooldowns"]) for key in answer.json["keys"]] == [0, 1, 1]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest_twisted.ensureDeferred
async def test_an_operation_on_a_key_that_is_not_there(admin, fits, operation):
    answer = await admin.ask("POST", f"/admin/keys/nobody/{operation}")
    assert answer.status == 404
    fits(answer, f"/admin/keys/{{keyId}}/{operation}", "post")


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("alpha", {"weight": 1000}, 200),
        ("alpha", {"weight": None}, 200),
        ("alpha", {"weight": 1001}, 400),
        ("alpha", {"weight": 1, "more": 1}, 400),
        ("nobody", {"weight": 1}, 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_weights(admin, fits, name, body, status):
    answer = await admin.ask("PUT", f"/admin/keys/{name}/weight", body)
    assert answer.status == status
    fits(answer, "/admin/keys/{keyId}/weight", "put")


@pytest_twisted.ensureDeferred
async def test_a_reload_that_is_refused(admin, fits):
    async def refuse():
        raise ConfigError((Fault("keys.yaml", 7, "keys[1].weight", "expected a whole number"),))

    admin.stage.reload = refuse
    answer = await admin.ask("POST", "/admin/config/reload")
    assert answer.status == 400
    assert "keys.yaml:7: keys[1].weight" in answer.error["message"]
    fits(answer, "/admin/config/reload", "post")


@pytest_twisted.ensureDeferred
async def test_requests_that_are_asked_for_wrongly(admin, fits):
    answer = await admin.ask("GET", "/admin/requests?limit=501")
    assert answer.status == 400
    fits(answer, "/admin/requests")
    answer = await admin.ask("GET", "/admin/requests/nobody")
    assert answer.status == 404
    fits(answer, "/admin/requests/{requestId}")
