"""The store of signatures, asked by a translation in another thread."""

import sys
from threading import Thread

import pytest

from gemproxy.translate.shared.signatures import RememberedCall, SignatureStore

CALL = RememberedCall("c2lnbmF0dXJl", issued_upstream=True)


@pytest.fixture
def eager_threads():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_calls_are_recalled_in_one_thread_while_another_remembers_and_lists():
    store = SignatureStore(capacity=50)
    failures = []

    def recall():
        try:
            for number in range(60_000):
                assert store.recall(f"call_{number % 60}") in (None, CALL)
        except Exception as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    thread = Thread(target=recall)
    thread.start()
    number = 0
    while thread.is_alive():
        store.remember(f"call_{number % 60}", CALL)
        assert len(dict(store.items())) <= 50
        number += 1
    thread.join()
    assert failures == []
