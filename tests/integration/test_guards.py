"""What a client may not do to the daemon, and what others do not notice of it."""

import threading

import pytest
from fakes.running import keys_of
from fakes.wire import CHAT, Wire, chat, request, said

MEGABYTE = 1024 * 1024


def test_a_client_that_never_stops_sending_after_its_refusal_is_cut_off(shared_daemon):
    with Wire(shared_daemon) as wire:
        wire.send(request("POST", CHAT, content_length=str(1024 * MEGABYTE)))
        assert wire.receive().status == 413
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            wire.send(b" " * 200 * MEGABYTE)
    assert chat(shared_daemon).status == 200


def test_hundreds_of_pipelined_requests_are_served_in_order(shared_daemon):
    count = 400
    with Wire(shared_daemon) as wire:
        requests = [request("GET", f"/n/{n}", x_request_id=f"n-{n}") for n in range(count)]
        sending = threading.Thread(target=wire.send, args=(b"".join(requests),))
        sending.start()
        ids = [wire.receive().headers["x-request-id"] for _ in range(count)]
        sending.join()
    assert ids == [f"n-{n}" for n in range(count)]


def test_many_idle_connections_are_in_nobodys_way(shared_daemon):
    wires = [Wire(shared_daemon) for _ in range(200)]
    try:
        for wire in wires[::20]:
            wire.send(b"POST /v1/chat/comp")
        assert chat(shared_daemon).status == 200
        assert all(wire.ask("GET", "/livez").status == 200 for wire in wires[1::50])
    finally:
        for wire in wires:
            wire.socket.close()


def test_the_limit_of_requests_in_flight_counts_what_is_in_flight_only(start_daemon, simulator):
    """Neither finished requests, nor refused ones, nor clients that left keep a place."""
    daemon = start_daemon(keys_of("alpha"), proxy={"maxConcurrentRequests": 2})
    for _ in range(5):
        assert chat(daemon).status == 200
        with Wire(daemon) as wire:
            assert wire.ask("POST", CHAT, b"{").status == 400
    simulator.behave("alpha", "hang")
    for place in range(3):
        reached = simulator.requests()[-1]["number"]
        with Wire(daemon) as leaving:
            leaving.send(request("POST", CHAT, said("hi"), x_request_id=f"gone-{place}"))
            simulator.wait_for_request(lambda seen, reached=reached: seen["number"] == reached + 1)
        assert daemon.request_line(f"gone-{place}")["status"] == 499
    simulator.reset()
    assert chat(daemon).status == 200
