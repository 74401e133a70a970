"""Who pays for the attempts of one request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.attribution import Attribution, attribute
from gemproxy.core.context import Attempt
from gemproxy.pool.outcome import Charge, Outcome, Verdict


def attempts(*pairs):
    return [Attempt(key_id, key_id, 0.0, Outcome(verdict)) for key_id, verdict in pairs]


@pytest.mark.parametrize(
    ("verdict", "charge"),
    [
        (Verdict.SUCCESS, Charge.KEY),
        (Verdict.BLOCKED, Charge.KEY),
        (Verdict.QUOTA_MINUTE, Charge.KEY),
        (Verdict.QUOTA_DAY, Charge.KEY),
        (Verdict.KEY, Charge.KEY),
        (Verdict.BROKEN_OFF, Charge.KEY),
        (Verdict.SERVICE, Charge.MODEL),
        (Verdict.NETWORK, Charge.MODEL),
        (Verdict.REQUEST, Charge.NOBODY),
        (Verdict.MODEL_DENIED, Charge.NOBODY),
        (Verdict.FORBIDDEN, Charge.KEY),
        (Verdict.REGION, Charge.NOBODY),
        (Verdict.UNUSABLE, Charge.NOBODY),
        (Verdict.HOST, Charge.NOBODY),
        (Verdict.CLIENT_GONE, Charge.NOBODY),
    ],
)
def test_single_attempt(verdict, charge):
    assert attribute(attempts(("a", verdict))).charges == (charge,)


@pytest.mark.parametrize("served", [Verdict.SUCCESS, Verdict.BLOCKED])
@pytest.mark.parametrize("failed", [Verdict.SERVICE, Verdict.NETWORK])
def test_failure_is_the_keys_when_another_key_served(failed, served):
    story = attempts(("a", failed), ("b", failed), ("c", served))
    assert attribute(story) == Attribution((Charge.KEY, Charge.KEY, Charge.KEY), model_served=True)


def test_failure_that_follows_the_request_is_the_models_once():
    story = attempts(("a", Verdict.SERVICE), ("b", Verdict.NETWORK), ("c", Verdict.SERVICE))
    assert attribute(story) == Attribution((Charge.MODEL,) * 3, model_served=False)


def test_failure_is_nobodys_when_the_same_key_then_served():
    story = attempts(("a", Verdict.NETWORK), ("a", Verdict.SUCCESS))
    assert attribute(story) == Attribution((Charge.NOBODY, Charge.KEY), model_served=True)


@pytest.mark.parametrize("last", [Verdict.QUOTA_MINUTE, Verdict.REQUEST, Verdict.UNUSABLE])
def test_other_answers_do_not_prove_that_the_model_is_up(last):
    story = attempts(("a", Verdict.SERVICE), ("b", last))
    assert attribute(story).charges[0] is Charge.MODEL


def test_request_that_met_no_failure_says_nothing_of_the_model():
    assert attribute(attempts(("a", Verdict.REQUEST))).model_served is None
    two_keys_fail = attempts(("a", Verdict.QUOTA_DAY), ("b", Verdict.KEY))
    assert attribute(two_keys_fail).model_served is None
    assert attribute([]) == Attribution((), None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(sorted(Verdict, key=str)))))
def test_model_fails_exactly_where_it_is_charged(pairs):
    story = attempts(*pairs)
    told = attribute(story)
    assert len(told.charges) == len(story)
    assert (told.model_served is False) == (Charge.MODEL in told.charges)
    served = {Verdict.SUCCESS, Verdict.BLOCKED} & {verdict for _, verdict in pairs}
    assert (told.model_served is True) == bool(served)


def test_client_that_leaves_early_leaves_the_model_alone():
    story = attempts(("a", Verdict.SERVICE), ("b", Verdict.CLIENT_GONE))
    assert attribute(story) == Attribution((Charge.NOBODY, Charge.NOBODY), None)


def spared(key_id, verdict):
    return Attempt(key_id, key_id, 0.0, Outcome(verdict, spares_key=True))


def test_what_happened_on_the_way_is_no_keys_though_another_key_served():
    served = attempts(("c", Verdict.SUCCESS))
    story = [spared("a", Verdict.NETWORK), spared("b", Verdict.SERVICE), *served]
    charges = (Charge.NOBODY, Charge.NOBODY, Charge.KEY)
    assert attribute(story) == Attribution(charges, model_served=True)


def test_what_happened_on_the_way_is_the_models_where_nobody_served():
    story = [spared("a", Verdict.NETWORK), spared("b", Verdict.NETWORK)]
    assert attribute(story) == Attribution((Charge.MODEL,) * 2, model_served=False)
    assert attribute(story[:1]) == Attribution((Charge.MODEL,), model_served=False)


def test_a_stream_that_lost_its_way_is_nobodys():
    assert attribute([spared("a", Verdict.BROKEN_OFF)]) == Attribution((Charge.NOBODY,), None)
