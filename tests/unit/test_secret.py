"""A secret in the bytes of an answer."""

import pytest

from gemproxy.secret import Secret


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
