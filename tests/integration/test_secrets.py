"""A secret never shows: not in the log, not in an answer, not in a file, whatever goes wrong."""

import json
import secrets
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.running import TWISTD, Process, RunningDaemon, RunningSimulator, write_configuration
from fakes.wire import CHAT, Wire, ask, request, said

from gemproxy.simulator.behaviours import CATALOGUE, Kind

#: Longer than any part that the mask leaves.
PART = 9
FAILURES = [name for name, entry in CATALOGUE.items() if entry.kind not in {Kind.PLAIN, Kind.SHAPE}]


def standard_key():
    """Shaped like a key of Google's older form, made up here and now."""
    return "AI" + "za" + secrets.token_urlsafe(26)


def authorization_key():
    """Shaped like one of the newer form."""
    return "AQ" + "." + "Ab8R" + secrets.token_urlsafe(37)


def canary_token():
    return "canary-" + secrets.token_urlsafe(24)


def shown(secret, where):
    """The longest parts of ``secret``, longer than its mask, that ``where`` holds."""
    return [
        secret[place : place + PART]
        for place in range(len(secret) - PART + 1)
        if secret[place : place + PART] in where
    ]


class Stage:
    """A daemon whose every key fails in its own way, and everything that it ever said."""

    def __init__(self, folder, log_format):
        makers = (standard_key, authorization_key)
        self.keys = {name: makers[place % 2]() for place, name in enumerate(FAILURES)}
        self.admin, self.token, self.debug_token = (canary_token() for _ in range(3))
        self.simulator = RunningSimulator(
            folder,
            (),
            keys=[{"name": n, "key": k, "behaviour": n} for n, k in self.keys.items()],
        )
        self.daemon = RunningDaemon(
            folder,
            self.simulator.url,
            [{"name": name, "key": key} for name, key in self.keys.items()],
            proxy={
                "adminToken": self.admin,
                "accessTokens": [self.token, {"token": self.debug_token, "debug": True}],
            },
            upstream={
                "baseUrl": self.simulator.url,
                "firstByteTimeoutSeconds": 0.4,
                "idleTimeoutSeconds": 0.4,
            },
            retry={"maxAttempts": 1},
            monitoring={"failureThreshold": 10_000, "recoveryTime": 0.2, "cooldownSeconds": 0.2},
            logging={"level": "debug", "format": log_format},
        )
        self.answers = []

    @property
    def secrets(self):
        return [*self.keys.values(), self.admin, self.token, self.debug_token]

    def ask(self, *args, **headers):
        with Wire(self.daemon) as wire:
            wire.send(request(*args, connection="close", **headers))
            self.answers.append(wire.rest())

    def stop(self):
        self.simulator.stop()
        return self.daemon.stop()

    def everything(self):
        files = [
            path.read_bytes().decode("utf-8", "replace")
            for path in self.daemon.folder.rglob("*")
            if path.is_file() and path.suffix != ".yaml"
        ]
        answers = [answer.decode("utf-8", "replace") for answer in self.answers]
        return "\n".join([self.daemon.output, *answers, *files])


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_failure_of_the_upstream_shows_a_secret(tmp_path, log_format):
    stage = Stage(tmp_path, log_format)
    try:
        provoke(stage)
        # The test's own eyes are open: what it looks for did come from the upstream.
        assert stage.keys["suspended"] in told_by(stage.simulator.url, stage.keys["suspended"])
        used = {seen["key"] for seen in stage.simulator.requests()}
        assert used == set(FAILURES)
    finally:
        status = stage.stop()
    assert status == 0
    everything = stage.everything()
    assert "suspended" in everything
    for secret in stage.secrets:
        assert shown(secret, everything) == []


def provoke(stage):
    """Every failure, asked for whole and as a stream; then every wrong way to show a token."""
    bodies = [
        said("hi", model, stream=stream)
        for stream, model in ((False, "gemini-3.8-flash"), (True, "gemini-2.5-flash"))
    ]
    asks = [
        (("POST", CHAT, body), {"authorization": f"Bearer {token}"})
        for body in bodies
        for token in (stage.token, stage.debug_token)
        for _ in FAILURES
    ]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(stage.ask, *args, **headers) for args, headers in asks]:
            done.result()
    for secret in stage.secrets[-5:]:
        for headers in (
            {"authorization": f"Bearer {secret}x"},
            {"authorization": f"Basic {secret}"},
            {"authorization": secret},
            {"x_goog_api_key": secret, "x_request_id": "mine"},
            {"cookie": f"token={secret}"},
        ):
            for path in ("/v1/models", "/admin/keys", "/readyz"):
                stage.ask("GET", path, **headers)
    for token in (stage.admin, stage.token):
        stage.ask("GET", "/v1/models", authorization=f"Bearer {token}")
        stage.ask("GET", "/admin/no/such/thing", authorization=f"Bearer {token}")


def told_by(simulator_url, key):
    """What the simulator answers to a key directly."""
    asked = urllib.request.Request(
        f"{simulator_url}/v1beta/models/gemini-3.8-flash:generateContent",
        b'{"contents":[{"parts":[{"text":"hi"}]}]}',
        {"x-goog-api-key": key, "content-type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=20)
    with refused.value as answer:
        return answer.read().decode()


def test_a_secret_that_a_client_sends_as_a_models_name_stays_out_of_the_log(start_daemon):
    """The likeliest slip: a key pasted into the wrong field."""
    token = canary_token()
    daemon = start_daemon(None, proxy={"accessTokens": [token]}, logging={"level": "debug"})
    for body in (said("hi", token), said(token, "gemini-0-nothing")):
        ask(daemon, "POST", CHAT, body, authorization=f"Bearer {token}", x_request_id="slip")
    ask(daemon, "GET", f"/v1/{token}", authorization=f"Bearer {token}", x_request_id=token)
    assert daemon.stop() == 0
    assert '"request_id":"slip"' in daemon.output
    assert shown(token, daemon.output) == []


def test_an_error_does_not_repeat_a_secret_that_was_put_in_the_wrong_place(start_daemon):
    token = canary_token()
    daemon = start_daemon(None, proxy={"accessTokens": [token]})
    wrong_role = {"model": "m", "messages": [{"role": token, "content": "hi"}]}
    answers = [
        ask(daemon, "GET", f"/v1/{token}", authorization=f"Bearer {token}"),
        ask(daemon, "GET", f"/v1/models/{token}", authorization=f"Bearer {token}"),
        ask(daemon, "POST", CHAT, wrong_role, authorization=f"Bearer {token}"),
    ]
    for answer in answers:
        assert answer.status in (400, 404)
        assert shown(token, answer.body.decode()) == []


@pytest.mark.parametrize("form", [standard_key, authorization_key])
def test_mistakes_in_the_files_show_no_secret(tmp_path, form):
    one, other, token = form(), form(), canary_token()
    keys = [
        {"name": "a", "key": one, "weight": one},
        {"name": one, "key": f"{other} "},
        {"name": "c", "key": one},
        {"name": "d", "keey": other},
        other,
    ]
    config, key_file = write_configuration(
        tmp_path,
        "http://127.0.0.1:9",
        keys,
        proxy={"adminToken": token, "accessTokens": [token, {"name": token, "token": other}]},
        models={"aliases": {other: one + " "}},
    )
    config.write_text(config.read_text() + f"{token}: 1\n")
    process = Process(*TWISTD, "gemproxy", "--config", config, "--keys", key_file, cwd=tmp_path)
    assert process.wait() == 78
    assert len(process.errors) >= 5
    for secret in (one, other, token):
        assert shown(secret, process.output) == []


def test_yaml_that_cannot_be_read_shows_no_secret(tmp_path):
    key = authorization_key()
    (tmp_path / "proxy.yaml").write_text(json.dumps({"proxy": {"adminToken": canary_token()}}))
    (tmp_path / "keys.yaml").write_text(f"keys:\n- name: a\n  key: '{key}\n- name: [b\n")
    process = Process(
        *TWISTD, "gemproxy", "--config", "proxy.yaml", "--keys", "keys.yaml", cwd=tmp_path
    )
    assert process.wait() == 78
    assert shown(key, process.output) == []
