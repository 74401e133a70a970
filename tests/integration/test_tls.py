"""TLS on both sides of the daemon, and the way through an HTTP proxy."""

import ssl

import pytest
import trustme
from fakes.running import RunningDaemon, keys_of
from fakes.threads import ANSWER, http_proxy, tls_upstream
from fakes.wire import CHAT, Wire, chat, request, said


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


# -- the listener ----------------------------------------------------------------------------------


@pytest.fixture
def secure(authority, tmp_path, start_daemon):
    """A daemon that speaks TLS, and the context of a client that trusts it."""
    issued = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(cert), append=True)
    daemon = start_daemon(
        keys_of("alpha"), proxy={"tls": {"certFile": str(cert), "keyFile": str(key)}}
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return daemon, context


def offered(context, suites, version=ssl.TLSVersion.TLSv1_2):
    """The client's ``context``, which speaks nothing but this."""
    context.minimum_version = context.maximum_version = version
    if suites:
        context.set_ciphers(f"{suites}:@SECLEVEL=0")
    return context


WEAK = [
    "AES128-GCM-SHA256",  # RSA key exchange: no forward secrecy
    "AES256-SHA256",
    "AES128-SHA",
    "ECDHE-RSA-AES128-SHA256",  # CBC
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-CCM8",
    "aNULL",
]
STRONG = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
]


@pytest.fixture(scope="module", params=["tls", "ssl"])
def listeners(request, authority, simulator, tmp_path_factory):
    """Daemons that speak TLS by either setting, with an RSA and an ECDSA key."""
    folder = tmp_path_factory.mktemp("listeners")
    running = {}
    for kind in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
        issued = authority.issue_cert("localhost", key_type=kind)
        cert, key = folder / f"{kind.name}.pem", folder / f"{kind.name}-key.pem"
        issued.private_key_pem.write_to_path(str(key))
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(cert), append=True)
        proxy = {"tls": {"certFile": str(cert), "keyFile": str(key)}}
        if request.param == "ssl":
            interface = "port=0:interface=127.0.0.1"
            proxy = {"endpoint": f"ssl:{interface}:privateKey={key}:certKey={cert}"}
        home = tmp_path_factory.mktemp("daemon")
        running[kind.name] = RunningDaemon(home, simulator.url, keys_of("alpha"), proxy=proxy)
    yield running
    for daemon in running.values():
        daemon.stop()


def handshake(daemon, authority, suites, version=ssl.TLSVersion.TLSv1_2):
    """The version and suite that both agree on; ``None`` where they do not."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    try:
        with Wire(daemon, offered(context, suites, version)) as wire:
            assert wire.ask("GET", "/livez").status == 200
            return wire.socket.version(), wire.socket.cipher()[0]
    except ssl.SSLError:
        return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_the_listener_takes_suites_with_forward_secrecy_and_authenticated_encryption_only(
    listeners, authority
):
    for daemon in listeners.values():
        assert [handshake(daemon, authority, suite) for suite in WEAK] == [None] * len(WEAK)
        version = ssl.TLSVersion.TLSv1_3
        assert handshake(daemon, authority, None, version)[0] == "TLSv1.3"
        assert handshake(daemon, authority, "ALL", ssl.TLSVersion.TLSv1_1) is None
    told = {
        suite: handshake(listeners[kind], authority, suite)
        for suite in STRONG
        for kind in ["ECDSA" if "ECDSA" in suite else "RSA"]
    }
    assert told == {suite: ("TLSv1.2", suite) for suite in STRONG}


def test_a_start_tells_addresses_that_can_be_opened(listeners):
    for daemon in listeners.values():
        line = next(event for event in daemon.events() if " on Python " in event["event"])
        assert line["address"] == f"https://{daemon.address}"
        assert line["dashboard"] == f"https://{daemon.address}/admin/"


def test_the_listener_speaks_tls(secure, simulator):
    daemon, context = secure
    with Wire(daemon, context) as wire:
        assert wire.ask("POST", CHAT, said("hi")).status == 200
        assert wire.ask("POST", CHAT, said("hi", stream=True)).body.endswith(b"[DONE]\n\n")
        assert wire.ask("GET", "/livez", connection="close").status == 200
        assert wire.rest() == b""
    with pytest.raises(ssl.SSLCertVerificationError):
        Wire(daemon, ssl.create_default_context())
    with Wire(daemon, context) as wire:
        wire.send(request("POST", CHAT, content_length="99999999"))
        assert wire.receive().status == 413

    # A client without TLS, or with none at all, costs nothing but its own connection.
    with Wire(daemon) as plain:
        plain.send(request("GET", "/livez"))
        assert b"200" not in plain.rest()

    # A drain lets an encrypted stream end whole as well.
    simulator.behave("alpha", "slow", parameters={"delay": 0.0, "chunkDelay": 0.05})
    with Wire(daemon, context) as wire:
        wire.send(request("POST", CHAT, said("hi", stream=True)))
        wire._until(b"data: {")
        daemon.popen.terminate()
        assert wire.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.output


# -- the upstream ----------------------------------------------------------------------------------


def daemon_for(start_daemon, url, **upstream):
    settings = {"baseUrl": url, **upstream}
    # The one attempt's outcome is what the client sees.
    return start_daemon(
        keys_of("alpha"), upstream=settings, retry={"maxAttempts": 1}, logging={"level": "debug"}
    )


def test_an_upstream_of_a_private_authority_is_trusted_by_its_ca_file(
    authority, ca_file, start_daemon
):
    with tls_upstream(server_context(authority, "localhost")) as server:
        url = f"https://localhost:{server.server_port}"
        answer = chat(daemon_for(start_daemon, url, caFile=ca_file))
        assert answer.status == 200
        assert "Hello over TLS." in answer.body.decode()
        assert b"x-goog-api-key" in server.heads[0].lower()


# -- through an HTTP proxy -------------------------------------------------------------------------


def test_a_connect_proxy_carries_tls_to_the_upstream(authority, ca_file, start_daemon):
    with tls_upstream(server_context(authority, "localhost")) as server, http_proxy() as proxy:
        place = f"localhost:{server.server_port}"
        daemon = daemon_for(
            start_daemon,
            f"https://{place}",
            caFile=ca_file,
            httpProxy=f"http://127.0.0.1:{proxy.server_address[1]}",
        )
        for _ in range(2):
            assert "Hello over TLS." in chat(daemon).body.decode()
        assert len(ANSWER) < 1000
        # The tunnel is kept and used again.
        assert proxy.targets == [place]
        assert daemon.stop() == 0
