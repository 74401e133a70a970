"""How the operator's program finds the daemon, and what it says where it does not."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme
from fakes.admin import TOKEN

from gemproxy.cli.admin_address import AdminAccess, AdminAddress, address_of
from gemproxy.cli.admin_client import AdminClient
from gemproxy.cli.exits import Refused
from gemproxy.config.settings import ProxySettings, TLSSettings
from gemproxy.secret import Secret


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://127.0.0.1:4806"),
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "::"}, "http://[::1]:4806"),
        ({"host": "192.0.2.7"}, "http://192.0.2.7:4806"),
        ({"endpoint": "tcp:8000"}, "http://127.0.0.1:8000"),
        ({"endpoint": "tcp:port=8000:interface=192.0.2.7"}, "http://192.0.2.7:8000"),
        ({"endpoint": r"tcp6:8000:interface=\:\:"}, "http://[::1]:8000"),
        ({"endpoint": "unix:/run/gemproxy.sock:mode=660"}, "unix:/run/gemproxy.sock"),
        ({"endpoint": r"unix:address=/run/a\:b"}, "unix:/run/a:b"),
        ({"endpoint": "ssl:8443:privateKey=own.pem"}, "https://127.0.0.1:8443"),
        ({"adminEndpoint": "tcp:9000", "port": 80}, "http://127.0.0.1:9000"),
    ],
)
def test_the_address_is_the_listeners(settings, address):
    fields = {"admin_endpoint" if k == "adminEndpoint" else k: v for k, v in settings.items()}
    assert str(address_of(ProxySettings(**fields))) == address


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"endpoint": "systemd:domain=INET:index=0"}, "proxy.endpoint is systemd:domain=INET"),
        ({"endpoint": "haproxy:tcp:8000"}, "proxy.endpoint is haproxy:tcp:8000"),
        ({"admin_endpoint": "tcp:0"}, "proxy.adminEndpoint is 0, any free port"),
        ({"port": 0}, "proxy.port is 0, any free port"),
    ],
)
def test_an_address_that_cannot_be_known_has_to_be_said(settings, what):
    with pytest.raises(Refused, match="say it with --url http://HOST:PORT") as refused:
        address_of(ProxySettings(**settings))
    assert str(refused.value).startswith(what)
    said = address_of(ProxySettings(**settings), "http://127.0.0.1:4806")
    assert str(said) == "http://127.0.0.1:4806"


def test_the_certificate_of_the_public_listener_is_not_that_of_the_admin_endpoint():
    tls = TLSSettings(Path("cert.pem"), Path("key.pem"))
    assert address_of(ProxySettings(tls=tls)).certificate == Path("cert.pem")
    assert not address_of(ProxySettings(tls=tls, admin_endpoint="tcp:9000")).tls
    assert not address_of(ProxySettings(tls=tls), "http://127.0.0.1:9000").tls


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://proxy.example", "http://proxy.example:80"),
        ("https://proxy.example/", "https://proxy.example:443"),
        ("http://[::1]:4806", "http://[::1]:4806"),
        ("unix:/run/gemproxy.sock", "unix:/run/gemproxy.sock"),
    ],
)
def test_url_takes_these(url, address):
    assert str(address_of(ProxySettings(), url)) == address


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4806",
        "ftp://h",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://h/admin",
        "http://me:hush-hush@h",
        "unix:",
    ],
)
def test_url_takes_nothing_else_and_repeats_nothing(daemon, gemproxy, url):
    status, out, err = gemproxy("keys", "--url", url)
    assert (status, out) == (64, "")
    assert err == ("gemproxy: --url: expected http://HOST:PORT, https://HOST:PORT or unix:PATH\n")


# -- what stands in the way ------------------------------------------------------------------------


def test_a_daemon_that_does_not_run(configure, gemproxy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        configure(port=port)
        status, out, err = gemproxy("keys")
    assert (status, out) == (1, "")
    assert err == (
        f"gemproxy: nothing listens at http://127.0.0.1:{port}; is the daemon running?\n"
    )


def test_a_unix_socket_that_is_not_there(configure, gemproxy):
    configure(endpoint="unix:nothing.sock")
    assert gemproxy("keys") == (
        1,
        "",
        "gemproxy: nothing listens at unix:nothing.sock; is the daemon running?\n",
    )


def test_a_wrong_token(daemon, configure, gemproxy):
    configure(port=daemon.port, adminToken="another-token-of-somebody")
    status, out, err = gemproxy("keys")
    assert (status, out) == (1, "")
    assert err == (
        f"gemproxy: the daemon at {daemon.url} refuses the admin token of config/proxy.yaml; "
        "was it started with this file?\n"
    )
    assert len(daemon.seen) == 1


def test_an_address_that_is_locked_out(daemon, configure, gemproxy):
    configure(port=daemon.port, adminToken="another-token-of-somebody")
    for _ in range(10):
        gemproxy("keys")
    status, _, err = gemproxy("keys")
    assert status == 1
    assert "refuses the admin token of config/proxy.yaml, and every wrong one from here" in err
    assert "for another 60 s" in err


def test_no_token_is_sent_where_none_is_asked(serve, configure, gemproxy):
    server = serve(admin_open=True)
    path = configure(port=server.port)
    path.write_text(f"proxy: {{port: {server.port}, adminAuth: disabled}}\n")
    assert gemproxy("keys")[0] == 0


def test_a_token_may_be_in_the_environment(daemon, configure, gemproxy, monkeypatch):
    path = configure()
    path.write_text(f"proxy: {{port: {daemon.port}, adminTokenEnv: TOKEN_OF_THE_OPERATOR}}\n")
    status, _, err = gemproxy("keys")
    assert status == 78
    assert "proxy.adminTokenEnv: the environment variable TOKEN_OF_THE_OPERATOR is not set" in err
    monkeypatch.setenv("TOKEN_OF_THE_OPERATOR", TOKEN)
    assert gemproxy("keys")[0] == 0


def test_a_file_without_a_token(configure, gemproxy):
    configure().write_text("proxy: {port: 4806}\n")
    assert gemproxy("keys") == (78, "", "config/proxy.yaml: proxy.adminToken: is missing\n")


def test_mistakes_elsewhere_do_not_hinder_the_operator(daemon, configure, gemproxy):
    path = configure(port=daemon.port, accessTokens=[{"tokenEnv": "NOT_SET_IN_THIS_SHELL"}])
    path.write_text(path.read_text() + "retry: {maxAttempts: two}\n")
    Path("config/keys.yaml").write_text("keys: [")
    assert gemproxy("keys")[0] == 0
    path.write_text(path.read_text() + "logging: [")
    assert gemproxy("keys")[0] == 78


@pytest.fixture
def answering():
    """A server that answers every connection with the same bytes."""
    servers = []

    def start(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def work():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=work, daemon=True).start()
        return server.getsockname()[1]

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "ended the connection without an answer; does the daemon speak plain HTTP there?"),
        (b"SSH-2.0-x\r\n", "ended the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is no gemproxy of this version"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe{", "is no gemproxy of this"),
        (
            b"HTTP/1.1 502 Oh\r\nContent-Length: 3\r\n\r\n<p>",
            "no admin API of gemproxy: status 502",
        ),
    ],
)
def test_something_else_that_answers(configure, gemproxy, answering, answer, words):
    configure(port=answering(answer))
    status, out, err = gemproxy("keys")
    assert (status, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


def test_an_error_of_the_daemons_cannot_move_the_cursor(configure, gemproxy, answering):
    body = b'{"error": {"message": "no\\u001b[2J", "type": "server_error"}}'
    head = b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n" % len(body)
    port = answering(head + body)
    configure(port=port)
    assert gemproxy("reload")[2] == (
        f"gemproxy: the daemon at http://127.0.0.1:{port} says: no\N{REPLACEMENT CHARACTER}[2J\n"
    )


def test_a_daemon_that_hangs_is_not_waited_for_forever():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = AdminAddress("127.0.0.1", silent.getsockname()[1])
        client = AdminClient(AdminAccess(address, None, Path("p.yaml")), timeout=0.05)
        with pytest.raises(Refused, match=r"did not answer within 0\.05 s"):
            client.keys()


# -- Unix sockets and TLS --------------------------------------------------------------------------


def test_a_unix_socket(serve, configure, gemproxy):
    configure(endpoint="unix:gemproxy.sock")
    serve(path="gemproxy.sock")
    status, out, _ = gemproxy("keys")
    assert status == 0
    assert "alpha" in out
    assert gemproxy("keys", "--url", "unix:gemproxy.sock")[0] == 0


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority, serve, tmp_path):
    """Starts a server with a certificate for a name, of which ``cert.pem`` holds the leaf only."""

    def start(name, **options):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        return serve(context=context, **options)

    return start


FILES = {"certFile": "../cert.pem", "keyFile": "../key.pem"}


def test_the_certificate_itself_is_trusted_whatever_its_name_on_loopback(
    configure, secure, gemproxy
):
    server = secure("proxy.example")
    configure(port=server.port, tls=FILES)
    assert gemproxy("keys")[0] == 0


def test_tls_over_a_unix_socket(configure, secure, gemproxy):
    configure(endpoint="unix:gemproxy.sock", tls=FILES)
    secure("proxy.example", path="gemproxy.sock")
    assert gemproxy("keys")[0] == 0


def test_another_certificate_is_not_trusted_and_hears_no_token(
    configure, secure, gemproxy, tmp_path
):
    server = secure("proxy.example")
    trustme.CA().issue_cert("proxy.example").cert_chain_pems[0].write_to_path(
        str(tmp_path / "cert.pem")
    )
    configure(port=server.port, tls=FILES)
    status, _, err = gemproxy("keys")
    assert status == 1
    assert err.startswith(f"gemproxy: the certificate at https://127.0.0.1:{server.port} is not")
    assert server.seen == []


def test_elsewhere_the_name_counts(monkeypatch, secure, tmp_path):
    server = secure("proxy.example")
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))],
    )

    def ask(host):
        address = AdminAddress(host, server.port, tls=True, certificate=tmp_path / "cert.pem")
        return AdminClient(AdminAccess(address, Secret(TOKEN), Path("p.yaml"))).health()

    assert ask("proxy.example").version == "1.2.3"
    with pytest.raises(Refused, match="Hostname mismatch"):
        ask("other.example")


def test_tls_with_a_server_that_speaks_none(configure, secure, serve, gemproxy):
    secure("proxy.example")
    configure(port=serve().port, tls=FILES)
    status, _, err = gemproxy("keys")
    assert status == 1
    assert "no TLS with https://127.0.0.1:" in err


def test_a_file_that_is_no_certificate(configure, gemproxy, tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing")
    configure(tls=FILES)
    status, _, err = gemproxy("keys")
    assert (status, err.count("\n")) == (1, 1)
    assert "cert.pem: expected certificates in PEM form" in err
