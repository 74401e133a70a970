"""The fair order of requests that wait for a key, without a pool or a clock."""

from collections import Counter
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.core.queue import HIGH, LOW, NORMAL, FairQueue, Waiting


def waiting(client, rank=NORMAL, model="m", need=None, deadline=inf):
    return Waiting(model, client, rank, need, deadline)


def queue_of(*requests, capacity=200):
    queue = FairQueue(capacity)
    for request in requests:
        queue.add(request)
    return queue


def served_in_turn(queue, model="m", places=inf, fits=lambda _: True):
    """Give keys to as many requests as there are ``places`` and the keys fit."""
    served = []
    for request in queue.in_turn(model):
        if len(served) < places and fits(request):
            queue.served(request)
            served.append(request)
    return served


def test_clients_take_turns_and_each_keeps_its_own_order():
    many = [waiting("flood") for _ in range(5)]
    one = [waiting("calm"), waiting("calm")]
    queue = queue_of(*many, *one)
    assert served_in_turn(queue) == [many[0], one[0], many[1], one[1], *many[2:]]
    assert not queue.models


def test_a_client_that_was_served_goes_behind_those_that_wait():
    queue = queue_of(*[waiting(client) for client in "aabbcc"])
    order = [served_in_turn(queue, places=1)[0].client for _ in range(4)]
    queue.add(waiting("d"))
    order += [served_in_turn(queue, places=1)[0].client for _ in range(3)]
    assert "".join(order) == "abcabcd"


def test_priorities_come_first_and_low_waits_for_all_others_of_its_model():
    low, normal, high = waiting("a", LOW), waiting("b"), waiting("c", HIGH)
    other = waiting("d", LOW, "another")
    queue = queue_of(low, normal, high, other)
    assert served_in_turn(queue, fits=lambda request: request is not normal) == [high]
    assert served_in_turn(queue, "another") == [other]
    queue.remove(normal)
    assert served_in_turn(queue) == [low]


def test_a_request_without_a_key_delays_no_other_client_and_no_other_need():
    bound, first, second = waiting("a", need="project"), waiting("a"), waiting("b")
    queue = queue_of(bound, waiting("a", need="project"), first, second)
    offered = []

    def fits(request):
        offered.append(request)
        return request.need is None

    assert served_in_turn(queue, fits=fits) == [first, second]
    assert offered == [bound, first, second]


def test_a_full_queue_takes_the_newest_of_the_client_with_most_of_the_lowest_priority():
    flood = [waiting("flood") for _ in range(3)]
    low = [waiting("batch", LOW) for _ in range(2)]
    queue = queue_of(*flood, *low, capacity=5)

    def loser_to(newcomer):
        queue.add(newcomer)
        loser = queue.surplus(newcomer)
        queue.remove(loser)
        assert len(queue) == 5
        return loser

    # It has as many as the other, or more.
    for newcomer in (waiting("batch", LOW), waiting("flood"), waiting("flood", HIGH)):
        assert loser_to(newcomer) is newcomer
    assert loser_to(waiting("calm")) is low[1]
    assert loser_to(waiting("quiet")) is low[0]
    # Of normal priority only, a request of low priority would never be served.
    late = waiting("batch", LOW)
    assert loser_to(late) is late
    assert loser_to(waiting("more")) is flood[2]


def test_deadlines_and_leaving():
    first, second = waiting("a", deadline=2.0), waiting("a", deadline=1.0)
    queue = queue_of(first, second)
    assert queue.next_deadline == 1.0
    assert queue.expired(0.5) == []
    assert queue.expired(2.0) == [second, first]
    assert queue.remove(second)
    assert not queue.remove(second)
    assert queue.next_deadline == 2.0
    queue.remove(first)
    assert queue.next_deadline == inf
    assert len(queue) == 0


REQUESTS = st.builds(
    waiting,
    st.sampled_from("abcd"),
    st.sampled_from([HIGH, NORMAL, LOW]),
    st.sampled_from("mn"),
    st.sampled_from([None, "p"]),
    st.integers(0, 9),
)
STEPS = st.lists(st.one_of(REQUESTS, st.integers(0, 20)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 8))
def test_whatever_comes_and_goes_the_queue_is_bounded_fair_and_in_order(steps, capacity):
    queue, inside = queue_of(capacity=capacity), []
    for step in steps:
        if isinstance(step, int):
            model = "mn"[step % 2]
            served = served_in_turn(queue, model, places=step // 2)
            inside = [each for each in inside if each not in served]
            check_order(served, [each for each in inside if each.model == model])
        else:
            queue.add(step)
            inside.append(step)
            loser = queue.surplus(step)
            assert (loser is not None) == (len(inside) > capacity)
            if loser is not None:
                check_loser(loser, step, inside)
                queue.remove(loser)
                inside.remove(loser)
        assert len(queue) == len(inside) <= capacity
        assert set(queue.models) == {each.model for each in inside}
        assert queue.next_deadline == min((each.deadline for each in inside), default=inf)
    for each in list(inside):
        queue.remove(each)
    assert not queue.models
    assert not queue._groups


def check_order(served, left):
    """By priority, then in turns, in the order of arrival for each client and need."""
    assert [each.rank for each in served] == sorted(each.rank for each in served)
    for rank in {each.rank for each in served}:
        assert all(each.rank >= rank for each in left)
        took = Counter(each.client for each in served if each.rank == rank)
        for waits in {each.client for each in left if each.rank == rank}:
            assert max(took.values()) <= took[waits] + 1
    for first in served:
        earlier = [each for each in left if each.number < first.number]
        assert not any(
            (each.client, each.rank, each.need) == (first.client, first.rank, first.need)
            for each in earlier
        )


def check_loser(loser, newcomer, inside):
    lowest = max(each.rank for each in inside)
    others = [each for each in inside if each is not newcomer]
    sizes = Counter(each.client for each in others if each.rank == lowest)
    own = sum(each.client == newcomer.client for each in others)
    if loser is newcomer:
        assert max(sizes.values(), default=0) <= own
    else:
        assert sizes[loser.client] == max(sizes.values()) > own
        same = [each for each in others if (each.client, each.rank) == (loser.client, lowest)]
        assert loser is same[-1]
