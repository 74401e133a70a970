"""The records of decisions are cited by their numbers."""

from fakes.pages import REPOSITORY


def test_every_decision_has_a_number_of_its_own():
    numbers = [path.name[:4] for path in (REPOSITORY / "docs/decisions").glob("*.md")]
    assert len(set(numbers)) == len(numbers), sorted(numbers)
