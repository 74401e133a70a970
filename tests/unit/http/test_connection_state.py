"""The table of a connection's states, and a connection that is driven through it at random."""

import math
import re
from itertools import product

import pytest
from fakes.gates import OpenGate
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.openai.errors import OPENAI
from gemproxy.http.connection import HEADER_SECONDS, MAX_HELD_BYTES
from gemproxy.http.connection_state import TRANSITIONS, Event, InvalidTransition, State
from gemproxy.http.response_writer import write_whole
from gemproxy.http.site import ProxySite
from gemproxy.http.upload_rate import IDLE_SECONDS

LIMIT = 5000
PAIRS = list(product(State, Event))
MISSING = [pair for pair in PAIRS if pair not in TRANSITIONS]
REQUEST_ID = re.compile(rb"req_[0-9a-f]{32}")


# -- the table -------------------------------------------------------------------------------------


def reachable(start):
    found = {start}
    while new := {TRANSITIONS[p] for p in PAIRS if p in TRANSITIONS and p[0] in found} - found:
        found |= new
    return found


def test_each_state_is_reached_and_each_leads_to_the_end():
    assert reachable(State.IDLE) == set(State)
    for state in State:
        assert State.CLOSED in reachable(state)


def test_the_transport_may_be_lost_in_any_state_but_once():
    for state in State:
        assert ((state, Event.CONNECTION_LOST) in TRANSITIONS) == (state is not State.CLOSED)


def test_no_request_is_read_after_an_early_answer_or_a_close():
    assert reachable(State.LINGERING) == {State.LINGERING, State.CLOSING, State.CLOSED}
    assert reachable(State.CLOSING) == {State.CLOSING, State.CLOSED}


@pytest.mark.parametrize(("state", "event"), MISSING)
def test_a_pair_that_is_not_in_the_table_is_an_error_that_names_it(state, event):
    with pytest.raises(InvalidTransition, match=f"{event.name} while .* is {state.name}"):
        TRANSITIONS[state, event]


# -- a connection ----------------------------------------------------------------------------------


class Transport(StringTransport):
    """Loses nothing by itself; ``is_closed`` tells whether the connection asked for an end."""

    aborted = half_closed = False

    def abortConnection(self):
        self.aborted = True

    def loseWriteConnection(self):
        self.half_closed = True

    def unregisterProducer(self):
        self.producer = None  # As the transports of TCP do, more than once as well.

    @property
    def is_closed(self):
        return self.aborted or self.half_closed or self.disconnecting


class Client:
    """A site that answers /now at once and /later when the test says so."""

    def __init__(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.gate = OpenGate(self.clock, LIMIT)
        self.site = ProxySite(Resource(), self.clock, self.gate, OPENAI)
        self.waiting = []
        self.bodies = []
        self.site.fast_routes[b"POST", b"/now"] = self.answer
        self.site.fast_routes[b"POST", b"/later"] = self.waiting.append
        self.transport = Transport()
        self.connection = self.site.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    @property
    def state(self):
        return self.connection.state

    def answer(self, request):
        self.bodies.append(request.body())
        write_whole(request, 200, b"", b"%d" % len(self.bodies), self.clock.seconds())

    def send(self, data):
        self.connection.dataReceived(data)

    def lose(self):
        self.connection.connectionLost(Failure(ConnectionDone()))

    def take_turns(self):
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)


def post(path=b"/now", body=b"", headers=b""):
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, headers, len(body)) + body


def chunked(body, path=b"/now"):
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


@pytest.fixture
def client():
    return Client()


@pytest.mark.parametrize(
    ("sent", "state"),
    [
        (b"", State.IDLE),
        (b"P", State.HEAD),
        (post(body=b"abc")[:-1], State.BODY),
        (chunked(b"abc")[:-1], State.BODY),
        (post(b"/later"), State.RESPONDING),
        (post(), State.IDLE),
        (post(body=b"x" * (LIMIT + 1))[:-1], State.LINGERING),
        (b"nonsense\r\n\r\n", State.LINGERING),
        (post(headers=b"Connection: close\r\n"), State.CLOSING),
        (post(headers=b"Connection: close\r\n") + b"more", State.LINGERING),
    ],
)
def test_what_was_sent_leads_to_a_state(client, sent, state):
    for byte in sent:
        client.send(bytes([byte]))
    assert client.state is (State.CLOSING if sent.endswith(b"more") else state)
    whole = Client()
    whole.send(sent)
    assert whole.state is state
    client.lose()
    assert client.state is State.CLOSED


def test_the_site_may_close_in_any_state():
    for sent in (b"", b"P", post(body=b"abc")[:-1], post(b"/later"), b"nonsense\r\n\r\n"):
        client = Client()
        client.send(sent)
        client.site.close()
        assert client.state is State.CLOSING
        for request in client.waiting:
            client.answer(request)
        assert client.state is State.CLOSING


def ended_before_its_body(client):
    client.send(post(body=b"abc")[:-1])
    client.connection._request.end()


def ended_behind_an_early_answer(client):
    client.send(post(b"/later"))
    client.connection.linger()


def lost_twice(client):
    client.lose()
    client.lose()


@pytest.mark.parametrize(
    "misuse", [ended_before_its_body, ended_behind_an_early_answer, lost_twice]
)
def test_a_wrong_step_of_ours_is_an_error(client, misuse):
    with pytest.raises(InvalidTransition):
        misuse(client)


def test_an_answer_that_ends_twice_is_an_error(client):
    client.send(post(b"/later"))
    (request,) = client.waiting
    request.end()
    with pytest.raises(RuntimeError):
        request.end()


# -- the same stream of bytes, cut anywhere --------------------------------------------------------

bodies = st.binary(max_size=40) | st.text("\r\n0a:", max_size=20).map(str.encode)
messages = st.lists(
    st.builds(post, body=bodies)
    | st.builds(chunked, bodies)
    | st.builds(post, body=bodies, headers=st.just(b"Connection: close\r\n"))
    | st.sampled_from([b"\r\n", b"nonsense\r\n\r\n", b"GET /now HTTP/1.1\r\n\r\n", b"POST"]),
    min_size=1,
    max_size=5,
)
damage = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 2),
        st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\0", b":", b"0", b"\xff", b"9"]),
    ),
    max_size=3,
)


def outcome(stream, cuts):
    client = Client()
    start = 0
    for end in [*sorted(cuts), len(stream)]:
        if client.transport.is_closed:
            break
        client.send(stream[start:end])
        client.take_turns()
        start = max(start, end)
    answers = REQUEST_ID.sub(b"ID", client.transport.value())
    return answers, client.bodies, client.state, client.gate.taken


@given(messages, damage, st.data())
@settings(max_examples=300)
def test_answers_and_state_are_the_same_wherever_the_bytes_are_cut(parts, hits, data):
    stream = bytearray(b"".join(parts))
    for place, length, bytes_ in hits:
        start = int(place * len(stream))
        stream[start : start + length] = bytes_
    whole = outcome(bytes(stream), [])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    cut = outcome(bytes(stream), cuts)
    assert cut[:2] == whole[:2]
    # Whether bytes stand behind the last answer is seen only where they came with it.
    closed = {State.LINGERING, State.CLOSING}
    assert cut[2] is whole[2] or {cut[2], whole[2]} == closed
    assert cut[3] == whole[3]


# -- everything that may happen, in any order ------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Clients that send, read, wait and leave, and a site that answers and closes."""

    def __init__(self):
        super().__init__()
        self.client = Client()
        self.sent = 0
        self.is_lost = False

    def is_open(self):
        return not self.is_lost

    def has_producer(self):
        """Whether the transport would tell the connection how its buffer is."""
        return not self.is_lost and self.client.transport.producer is not None

    @precondition(is_open)
    @rule(piece=st.sampled_from([post(), post(b"/later", b"abc"), chunked(b"abc", b"/later")]))
    def send_a_request(self, piece):
        self.sent += 1
        self._deliver(piece)

    @precondition(is_open)
    @rule(piece=st.sampled_from([b"POST /now HT", b"\r\n", b"x", post(body=b"abc")[:-1]]))
    def send_a_part(self, piece):
        self.sent += 1
        self._deliver(piece)

    @precondition(is_open)
    @rule(size=st.integers(1, MAX_HELD_BYTES))
    def send_much(self, size):
        self.sent += 1
        self._deliver(b"y" * size)

    def _deliver(self, piece):
        if self.client.transport.producerState == "producing":
            self.client.send(piece)

    @precondition(lambda self: self.client.waiting)
    @rule()
    def answer(self):
        self.client.answer(self.client.waiting.pop(0))

    @precondition(has_producer)
    @rule()
    def fill_the_transport(self):
        self.client.connection.pauseProducing()

    @precondition(has_producer)
    @rule()
    def drain_the_transport(self):
        self.client.connection.resumeProducing()

    @rule(seconds=st.sampled_from([0, 0, 1, HEADER_SECONDS, IDLE_SECONDS]))
    def let_time_pass(self, seconds):
        self.client.clock.pump([min(1.0, seconds)] * max(1, int(seconds)))

    @precondition(is_open)
    @rule()
    def close_the_site(self):
        self.client.site.close()

    @precondition(is_open)
    @rule()
    def lose(self):
        self.is_lost = True
        self.client.lose()

    @invariant()
    def its_state_fits_what_it_does(self):
        client, connection = self.client, self.client.connection
        state = client.state
        assert (state is State.CLOSED) == self.is_lost
        if state is State.RESPONDING:
            assert len(client.waiting) == 1
            assert connection.deadline == math.inf
        if state in (State.HEAD, State.BODY, State.LINGERING, State.CLOSING):
            assert connection.deadline < math.inf
        if state in (State.LINGERING, State.CLOSING):
            assert client.transport.is_closed
            assert not connection._buffer
        if state is State.IDLE and connection.deadline == math.inf:
            assert connection._is_congested

    @invariant()
    def nothing_is_read_that_nobody_can_use(self):
        connection, transport = self.client.connection, self.client.transport
        if self.is_lost or connection.state in (State.LINGERING, State.CLOSING):
            return
        if connection._is_yielding:
            return  # What else holds is looked at in its turn.
        assert connection._is_paused == (transport.producerState == "paused")
        if connection._is_congested and connection.state in (State.IDLE, State.HEAD):
            assert connection._is_paused

    @invariant()
    def places_are_given_back(self):
        connection = self.client.connection
        in_use = {State.BODY, State.RESPONDING}
        expected = int(connection._request is not None and self.client.gate.taken > 0)
        assert self.client.gate.taken == expected
        if connection.state not in in_use | {State.CLOSING}:
            assert self.client.gate.taken == 0


AnyOrder.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestAnyOrder = AnyOrder.TestCase
