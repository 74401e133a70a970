"""A secret in the bytes of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.secret import PieceMask, Secret


@pytest.mark.parametrize("value", ["AI" + "zaSyD-9tSrke72PouQMnMX", "a", "e, e", "schlüssel"])
def test_a_secret_is_masked_wherever_it_occurs(value):
    secret = Secret(value)
    encoded = value.encode()
    assert secret.rarest in encoded
    stars = b"*" * len(encoded)
    assert secret.masked_in(b"<%b|%b>" % (encoded, encoded)) == b"<%b|%b>" % (stars, stars)
    clean = b"0123456789"
    assert secret.masked_in(clean) is clean


def test_the_rarest_byte_of_a_key_is_seldom_in_an_answer():
    answer = b'data: {"candidates":[{"content":{"parts":[{"text":"Hello there"}],"role":"model"}}]}'
    assert Secret("AI" + "zaSyD-9tSrke72PouQMnMX").rarest not in answer
    assert Secret("").masked_in(answer) is answer


@given(st.lists(st.sampled_from([b"a", b"ab", b"aab", b"abaab", b"b", b"-"]), max_size=12))
def test_a_secret_is_masked_wherever_a_body_is_divided(pieces):
    secret = Secret("abaab")
    mask = PieceMask(secret)
    sent = [*map(mask.add, pieces), mask.end()]
    whole = b"".join(pieces)
    assert b"".join(sent) == secret.masked_in(whole)
    # Nothing is held back that cannot begin the secret.
    if whole.endswith(b"-"):
        assert sent[-1] == b""
