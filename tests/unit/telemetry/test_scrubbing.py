"""Secrets are found by value, in every form, and nothing else is touched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import time
import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.secret import Secret
from gemproxy.telemetry.scrubbing import Scrubber

PLAIN = Secret("test-key-one-0123456789abcdef")
ODD = Secret('odd/+="\\&<%secret0123456789')
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60)

#: Characters that no secret has, so that what stands around one cannot be taken for a part of it.
AROUND = st.text("Ωλ \n€", max_size=30)


def test_text_without_secrets_is_the_same_object():
    text = "nothing to see here, and a long line of it: " * 5
    data = text.encode()
    scrubber = Scrubber([PLAIN, ODD])
    assert scrubber.scrub(text) is text
    assert scrubber.scrub_bytes(data) is data
    assert not scrubber.finds(data)


@pytest.mark.parametrize("before", range(12))
@pytest.mark.parametrize("after", ["", ".", " and more text behind it"])
def test_a_secret_is_found_wherever_it_begins(before, after):
    text = f"{'x' * before}{PLAIN.reveal()}{after}"
    assert Scrubber([PLAIN]).scrub(text) == f"{'x' * before}test…cdef{after}"


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        quote,
        lambda s: quote(s, safe=""),
        lambda s: re.sub("%..", lambda code: code[0].lower(), quote(s, safe="")),
        lambda s: json.dumps({"error": f"bad key {s}!"}),
        lambda s: json.dumps(s).replace("/", "\\/"),
        lambda s: repr(f"it's {s}"),
        repr,
        lambda s: repr(s.encode()),
        html.escape,
        lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.b64encode(f"user:{s}".encode()).decode(),
        lambda s: base64.urlsafe_b64encode(f"users:{s}:more".encode()).decode(),
    ],
)
@pytest.mark.parametrize("secret", [PLAIN, ODD])
def test_every_form_of_a_secret_is_masked(secret, form):
    text = f"GET /v1?key={form(secret.reveal())} failed"
    scrubbed = Scrubber([secret]).scrub(text)
    assert form(secret.reveal()) not in scrubbed
    assert form(secret.reveal())[6:-6] not in scrubbed
    assert "…" in scrubbed
    assert scrubbed.startswith("GET /v1?key=")
    assert scrubbed.endswith(" failed")


def test_json_stays_json_when_the_mask_needs_escaping():
    secret = Secret('a"b\\-0123456789-0123456789-c"d\\')
    text = json.dumps({"key": secret.reveal()})
    assert json.loads(Scrubber([secret]).scrub(text)) == {"key": secret.masked}


@pytest.mark.parametrize("length", range(12, 29))
def test_a_secret_that_was_cut_off_is_masked_too(length):
    value = PLAIN.reveal()
    assert Scrubber([PLAIN]).scrub(f"key={value[:length]}") == "key=test…cdef"
    assert Scrubber([PLAIN]).scrub(f"{value[-length:]} was it") == "test…cdef was it"


def test_a_few_shared_letters_are_no_secret():
    text = "test-key-on test-key-tw 456789abcdef"[:-1]
    assert Scrubber([PLAIN]).scrub(text) is text


def test_of_two_secrets_with_the_same_beginning_the_whole_one_is_masked():
    one, two = Secret("same-beginning-0001"), Secret("same-beginning-0001-and-longer")
    assert Scrubber([one, two]).scrub(f"[{two.reveal()}] [{one.reveal()}]") == "[same…nger] […]"


def test_secrets_that_stand_side_by_side_are_all_masked():
    other = Secret("other-key-two-0123456789abcdef")
    text = PLAIN.reveal() + other.reveal() + PLAIN.reveal()
    assert Scrubber([PLAIN, other]).scrub(text) == "test…cdefothe…cdeftest…cdef"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("key=hunter2&x", "key=…&x"),
        ("hunter2", "…"),
        ('"hunter2"', '"…"'),
        ("hunter2000 of xhunter2", "hunter2000 of xhunter2"),
        ("p$w:1 p$w:12", "… …2"),
    ],
)
def test_a_short_secret_is_masked_where_it_is_a_word(text, scrubbed):
    assert Scrubber([Secret("hunter2"), Secret("p$w:1")]).scrub(text) == scrubbed


def test_many_short_secrets_are_found_as_well():
    scrubber = Scrubber(Secret(f"KEY{i}") for i in range(1000))
    assert scrubber.scrub("x-goog-api-key: KEY777, KEY1000") == "x-goog-api-key: …, KEY1000"


def test_a_secret_that_left_the_configuration_is_masked_for_a_long_while():
    scrubber = Scrubber([PLAIN])
    scrubber.replace([ODD])
    assert scrubber.scrub(PLAIN.reveal()) == "test…cdef"
    assert scrubber.scrub(ODD.reveal()) == ODD.masked


def test_the_secrets_of_the_past_do_not_grow_without_bound():
    scrubber = Scrubber([PLAIN])
    scrubber.replace(Secret(f"generation-of-keys-{i:04}") for i in range(1001))
    scrubber.replace([ODD])
    assert scrubber.scrub(PLAIN.reveal()) == PLAIN.reveal()
    assert scrubber.scrub("generation-of-keys-1000") != "generation-of-keys-1000"


def test_text_that_is_no_unicode_is_scrubbed_too():
    assert Scrubber([PLAIN]).scrub(f"\ud800{PLAIN.reveal()}") == "\ud800test…cdef"
    assert Scrubber([PLAIN]).scrub_bytes(b"\xff" + PLAIN.reveal().encode()) == (
        b"\xff" + "test…cdef".encode()
    )


@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_no_secret_passes_whatever_it_is_made_of(secret, before, after):
    hidden = Secret(secret)
    text = f"{before}{secret}{after}"
    assert Scrubber([PLAIN, hidden]).scrub(text) == f"{before}{hidden.masked}{after}"


@given(st.binary(max_size=300))
def test_bytes_without_secrets_pass_unchanged(data):
    assert Scrubber([PLAIN, ODD]).scrub_bytes(data) == data


CROWD = [Secret(f"one-of-a-crowd-{number:05}-{number * 7919:08x}") for number in range(1500)]


@pytest.fixture(scope="module", params=["few", "many"])
def both_looks(request):
    """The coarse look and the close one are taken at different numbers of secrets."""
    return Scrubber([PLAIN, *(CROWD if request.param == "many" else CROWD[:2])])


@pytest.mark.parametrize("length", [*range(12, 34), 400, 2040, 2048, 2049, 5000])
def test_twelve_characters_of_either_end_are_found_at_every_place(both_looks, length):
    value = PLAIN.reveal()
    for part in (value[:12], value[-12:]):
        for before in {*range(min(20, length - 11)), length - 12}:
            text = "Ω".join(["."] * 3) + "." * before + part + "." * (length - 12 - before)
            data = text.encode()[-length:]
            assert len(data) == length
            assert part.encode() in data
            assert both_looks.finds(data)
            assert part.encode() not in both_looks.scrub_bytes(data)


@given(st.data())
def test_a_shape_without_secrets_has_none_whatever_its_digits(data):
    letters = st.text('ab1.-"', max_size=30)
    scrubber = Scrubber([Secret(value) for value in data.draw(st.lists(letters.filter(bool)))])
    text = data.draw(letters)
    digits = st.integers(0, 10**15).map(str) | st.sampled_from(["1", "11", "1111111111111"])
    other = re.sub("[0-9]+", lambda _: data.draw(digits), text)
    if not scrubber.finds_in_shape(text.encode()):
        assert scrubber.scrub(other) == other


def test_a_shape_is_free_of_secrets_that_have_nothing_to_do_with_it():
    scrubber = Scrubber([Secret("test-key-one-0123456789abcdef"), Secret("hunter2")])
    assert not scrubber.finds_in_shape(b'{"time":"2026-09-21T14:13:20.050Z","prompt_tokens":12}')
    assert scrubber.finds_in_shape(b"hunter99")
    assert scrubber.finds_in_shape(b'{"key":"a test-key-one-777"}')


def test_the_generation_tells_that_other_secrets_are_known():
    one, two = Secret("test-key-one-0123456789abcdef"), Secret("test-key-two-0123456789abcdef")
    scrubber = Scrubber([one])
    before = scrubber.generation
    scrubber.replace([one])
    assert scrubber.generation == before
    scrubber.replace([two])
    assert scrubber.generation > before


def test_however_many_leave_at_once_all_of_them_stay_known():
    # Without anything in common, by which one could be found for another.
    many = [Secret(hashlib.sha256(b"%d" % number).hexdigest()) for number in range(1500)]
    scrubber = Scrubber(many)
    scrubber.replace([Secret("test-key-other-0123456789abcdef")])
    assert [scrubber.scrub(each.reveal()) for each in many] == [each.masked for each in many]


@pytest.mark.parametrize("length", [12, 13, 16, 20])
def test_twelve_characters_from_anywhere_are_masked(both_looks, length):
    """Where a message cuts at both ends, what is left is still a part of the secret."""
    secret = PLAIN.reveal()
    for begin in range(len(secret) - length + 1):
        for before in range(8):
            text = f"{'.' * before}{secret[begin : begin + length]}."
            assert both_looks.scrub(text) == f"{'.' * before}test…cdef.", (begin, before)


def test_less_than_twelve_characters_are_no_part():
    """A token may be made of words, which may stand anywhere."""
    secret = PLAIN.reveal()
    for begin in range(len(secret) - 11 + 1):
        text = f"<{secret[begin : begin + 11]}>"
        assert Scrubber([PLAIN]).scrub(text) == text


def _spelled(pattern):
    return lambda s: "".join(pattern.format(ord(c)) for c in s)


def _every_other(spell):
    return lambda s: "".join(spell(c) if place % 2 else c for place, c in enumerate(s))


@pytest.mark.parametrize(
    "form",
    [
        str.lower,
        str.upper,
        lambda s: s.encode().hex(),
        lambda s: s.encode().hex().upper(),
        lambda s: base64.b32encode(s.encode()).decode(),
        lambda s: base64.b32encode(f"{s}, and more".encode()).decode().lower(),
        _spelled("%{:02x}"),
        _spelled("%{:02X}"),
        _spelled("\\u{:04x}"),
        _spelled("\\x{:02x}"),
        _spelled("&#{};"),
        _spelled("&#x{:x};"),
        _every_other(_spelled("%{:02X}")),
        _every_other(_spelled("\\u{:04X}")),
        _every_other(_spelled("&#0{};")),
        lambda s: _spelled("%{:02x}")(s).replace("%", "%25"),
        lambda s: _spelled("%{:02x}")(s)[9:-9],
        lambda s: f"%zz&#;\\u12 100% {_spelled('%{:02x}')(s)} %4",
    ],
)
@pytest.mark.parametrize("secret", [PLAIN, Secret("Made-Up_Key.Of_Nobody_0123456789-abcdef")])
def test_disguised_secrets_are_masked(both_looks, secret, form):
    """Forms that programs give to text in their messages; nothing of the disguise is left."""
    scrubber = Scrubber([PLAIN, secret])
    disguised = form(secret.reveal())
    scrubbed = scrubber.scrub(f"Ω it said: {disguised}. Ω")
    assert scrubbed.startswith("Ω it said: ")
    assert scrubbed.endswith(" Ω")
    assert secret.masked in scrubbed
    assert len(scrubbed) < 60
    assert scrubber.finds(disguised.encode())


@given(SECRETS, st.integers(0, 40), st.integers(12, 60), AROUND)
def test_no_part_passes_whatever_the_secret_is_made_of(secret, begin, length, around):
    """For any secret, any part of twelve characters or more."""
    part = secret[begin : begin + length]
    if len(part) >= 12:
        scrubbed = Scrubber([Secret(secret)]).scrub(f"{around}{part}{around}")
        assert part not in scrubbed


def test_numbers_without_a_character_are_left_alone():
    """What looks like a spelling may be none."""
    text = "&#9999999; &#x110000; %zz %4 \\u12 \\ud800 100% of AT&T"
    assert Scrubber([PLAIN]).scrub(text) == text


def test_the_look_for_parts_costs_little_with_thousands_of_secrets():
    """Memory, and the time to learn them, which a reload spends in a thread."""
    secrets = [Secret(hashlib.sha512(str(n).encode()).hexdigest()[:39]) for n in range(2000)]
    begun = time.process_time()
    tracemalloc.start()
    scrubber = Scrubber(secrets)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 25_000_000
    assert time.process_time() - begun < 5
    assert scrubber.scrub(secrets[1234].reveal()[10:30]) == secrets[1234].masked


@pytest.mark.parametrize(
    "secret", ["abcdefgh-ijklmnop", "qqqqwwwweeee", "made-up-qqqqwwwweeeerrrrttttyyyyuuuu"]
)
def test_a_secret_that_is_digits_in_hexadecimal_makes_no_number_suspicious(secret):
    """Else every second installation would lose the quick way of its lines."""
    scrubber = Scrubber([Secret(secret)])
    assert not scrubber.finds_in_shape(b'{"time":"2026-09-21T14:13:20.050Z","prompt_tokens":12}')
    assert scrubber.finds(secret.encode().hex().encode())


def test_a_secret_of_digits_alone_makes_numbers_suspicious():
    assert Scrubber([Secret("123456789012")]).finds_in_shape(b'{"prompt_tokens":12}')


MADE = "gpx_" + "Ab3_-" * 8 + "xyz"


@pytest.mark.parametrize("scrubber", [Scrubber(), Scrubber([Secret("another-secret-0123456789")])])
def test_a_token_that_was_made_here_is_known_by_its_form(scrubber):
    """Nobody knows its value: only its digest is kept."""
    text = f"POST /v1/{MADE}?key={MADE} as 'gpx_short'"
    assert scrubber.finds(text.encode())
    assert scrubber.finds_in_shape(text.encode())
    assert scrubber.scrub(text) == "POST /v1/gpx_…?key=gpx_… as 'gpx_short'"
    assert scrubber.scrub("gpx_short") == "gpx_short"
