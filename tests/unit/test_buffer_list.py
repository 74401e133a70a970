"""Bodies in pieces, and what tells one body from another."""

import pytest

from gemproxy.buffer_list import BufferList, digest


@pytest.mark.parametrize("size", [0, 1, 100, 300_000, 2_000_000])
def test_a_digest_does_not_depend_on_how_a_body_is_cut(size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    cuts = [BufferList([body[:cut], memoryview(body)[cut:]]) for cut in (0, size // 3, size)]
    assert {digest(body), *map(digest, cuts)} == {digest(body)}
    assert len(digest(body)) == 12


def test_bodies_that_differ_at_either_end_or_in_length_are_told_apart():
    long = bytes(2_000_000)
    others = [b"x" + long[1:], long[:-1] + b"x", long + b"\0", b"", b"\0"]
    assert len({digest(body) for body in [long, *others]}) == len(others) + 1
