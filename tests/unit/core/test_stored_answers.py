"""Stored answers: whose they are, and what bounds them."""

from gemproxy.core.owner import ADMIN, NOBODY, TOKEN, Owner
from gemproxy.core.stored_answers import AnswerStore, StoredAnswer

A = Owner(TOKEN, b"a" * 32, b"s" * 16)


def stored(identity, *history, at=0.0, size=10):
    return StoredAnswer(identity, A.label, at, b"{", b"x" * size, b"}", history)


def kept(store):
    return [answer.id for answer in store.answers()]


def test_an_answer_belongs_to_its_client():
    store = AnswerStore()
    store.put(stored("one"), 0.0)
    assert store.get("one", A, 1.0).body == b"{xxxxxxxxxx}"
    for other in (Owner(TOKEN, b"b" * 32, b"s" * 16), Owner(ADMIN, b"a" * 32, b"s" * 16), NOBODY):
        assert store.get("one", other, 1.0) is None
        assert not store.delete("one", other, 1.0)
    assert store.delete("one", A, 1.0)
    assert store.get("one", A, 1.0) is None
    assert store.bytes == 0


def test_the_client_of_a_token_is_the_same_after_a_restart():
    later = Owner(TOKEN, b"a" * 32, b"t" * 16)
    assert later.label != A.label
    assert later.owns(A.label)
    for wrong in ("a", "token", "token:", "token:x:y", f"token:{'00' * 40}:", "anonymous"):
        assert not later.owns(wrong)
    assert NOBODY.owns(NOBODY.label)
    assert not NOBODY.owns(A.label)


def test_answers_are_forgotten_after_their_lifetime():
    store = AnswerStore(lifetime=60.0)
    store.put(stored("old", at=0.0), 0.0)
    store.put(stored("new", at=30.0), 30.0)
    assert store.get("old", A, 59.9) is not None
    assert store.get("old", A, 60.0) is None
    assert kept(store) == ["new"]
    store.evict(90.0)
    assert (kept(store), store.bytes) == ([], 0)


def test_the_oldest_are_evicted():
    store = AnswerStore(capacity=2)
    for name in "abc":
        store.put(stored(name), 0.0)
    assert kept(store) == ["b", "c"]
    store = AnswerStore(max_bytes=10_000)
    for name in "abc":
        store.put(stored(name, size=4_000), 0.0)
    assert kept(store) == ["b", "c"]
    store.put(stored("huge", size=20_000), 0.0)
    assert kept(store) == ["b", "c"]


def test_the_bytes_of_a_conversation_are_counted_once():
    store = AnswerStore()
    first, second = b"1" * 50_000, b"2" * 50_000
    store.put(stored("a", first), 0.0)
    alone = store.bytes
    store.put(stored("b", first, second), 0.0)
    assert store.bytes < alone + 60_000
    store.delete("a", A, 0.0)
    assert store.bytes > 100_000
    store.delete("b", A, 0.0)
    assert store.bytes == 0


def test_a_disabled_store_is_empty():
    store = AnswerStore()
    store.put(stored("a"), 0.0)
    store.configure(10, 1000, 60.0, enabled=False)
    assert (kept(store), store.enabled) == ([], False)
    store.put(stored("b"), 0.0)
    assert kept(store) == []
    store.configure(10, 1000, 60.0, enabled=True)
    store.put(stored("c"), 0.0)
    assert kept(store) == ["c"]


def test_rows_for_the_state_name_texts_by_digests_and_come_back():
    store = AnswerStore()
    first, second = b"[1]", b"[2]"
    store.put(stored("a", first), 0.0)
    store.put(stored("b", first, second), 0.0)
    rows, texts = store.rows()
    assert sorted(texts.values()) == [first, second]
    assert store.rows()[0] == rows
    assert all(one is other for one, other in zip(store.rows()[0], rows, strict=True))
    later = AnswerStore()
    later.put(stored("new"), 0.0)
    later.restore(rows, texts, 0.0)
    assert kept(later) == ["a", "b", "new"]
    assert later.get("b", A, 0.0) == stored("b", first, second)
    # Without one of its texts a conversation is lost.
    later = AnswerStore()
    later.restore(rows, {digest: text for digest, text in texts.items() if text == first}, 0.0)
    assert kept(later) == ["a"]
