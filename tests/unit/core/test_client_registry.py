"""Clients of the file and of the state: which token is whose, and until when."""

from datetime import datetime
from hashlib import sha256
from zoneinfo import ZoneInfo

import pytest

from gemproxy.config.settings import AccessToken
from gemproxy.core.client_registry import ClientRegistry, ClientRow, ClientsFile, FileClient
from gemproxy.core.clients import Limits, Priority, expiry_of, may_ask
from gemproxy.core.errors import Conflict, Fault, NotFound
from gemproxy.secret import Secret

UTC = ZoneInfo("UTC")
IDENTITY = "0a" * 16


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def file_client(name: str, token: str = "token-of-the-file", **settings) -> FileClient:
    return FileClient(name, settings, bytes.fromhex(digest(token)), Secret(token))


class Stage:
    """A registry whose clock is ``now``."""

    def __init__(self, *clients: FileClient, **defaults):
        self.now = 1000.0
        self.registry = ClientRegistry(lambda: bytes(16), lambda: self.now)
        self.configure(*clients, **defaults)

    def configure(self, *clients: FileClient, **defaults):
        self.registry.configure(ClientsFile("clients.yaml", clients, defaults), UTC)

    def make(self, name="app", token="first", **settings):
        return self.registry.make(name, settings, digest(token), IDENTITY)

    def whose(self, token):
        """The name of the client that may use the token now."""
        found = self.registry.by_digest.get(bytes.fromhex(digest(token)))
        if found is None or (found.expires is not None and found.expires.at <= self.now):
            return None
        return found.name


def test_what_a_client_leaves_out_is_that_of_the_defaults():
    stage = Stage(
        file_client("mine", **{"limits.rpm": None}),
        file_client("theirs", "other"),
        **{"limits.rpm": 60, "priority": "low"},
    )
    stage.make(**{"limits.tpm": 5})
    found = {client.name: client for client in stage.registry.clients()}
    assert found["mine"].limits == Limits()
    assert found["theirs"].limits == Limits(rpm=60)
    assert found["app"].limits == Limits(rpm=60, tpm=5)
    assert {client.priority for client in found.values()} == {Priority.LOW}
    assert stage.registry.anonymous.limits == Limits(rpm=60)
    assert stage.registry.anonymous.name is None
    assert [client.source for client in found.values()] == ["file", "file", "api"]


def test_a_rotated_token_stays_valid_for_its_grace():
    stage = Stage()
    stage.make()
    stage.registry.rotate("app", digest("second"), 60.0)
    assert stage.whose("first") == stage.whose("second") == "app"
    stage.now += 60.0
    assert stage.whose("first") is None
    assert stage.whose("second") == "app"


def test_two_rotations_within_the_grace_leave_both_former_tokens_their_time():
    stage = Stage()
    stage.make()
    stage.registry.rotate("app", digest("second"), 60.0)
    stage.now += 30.0
    stage.registry.rotate("app", digest("third"), 120.0)
    assert [stage.whose(each) for each in ("first", "second", "third")] == ["app"] * 3
    stage.now += 30.0
    assert [stage.whose(each) for each in ("first", "second", "third")] == [None, "app", "app"]


def test_a_rotation_without_grace_ends_all_former_tokens():
    """It may be one of them that was leaked."""
    stage = Stage()
    stage.make()
    stage.registry.rotate("app", digest("second"), 600.0)
    stage.registry.rotate("app", digest("third"), 0.0)
    assert [stage.whose(each) for each in ("first", "second", "third")] == [None, None, "app"]


def test_many_rotations_keep_few_former_tokens():
    stage = Stage()
    stage.make()
    for number in range(100):
        stage.registry.rotate("app", digest(str(number)), 600.0)
    assert len(stage.registry.row("app").former) == 16
    assert len(stage.registry.by_digest) == 17


def test_a_deleted_client_leaves_no_token_and_cannot_come_back_with_an_old_state():
    stage = Stage()
    stage.make()
    old = stage.registry.rows()
    stage.registry.delete("app")
    assert stage.whose("first") is None
    stage.registry.restore(old)
    assert stage.whose("first") is None
    assert stage.registry.were_made
    with pytest.raises(NotFound):
        stage.registry.client("app")
    stage.make(token="new")
    assert (stage.whose("first"), stage.whose("new")) == (None, "app")


def test_a_client_of_a_reused_name_is_another_one():
    stage = Stage()
    before = stage.make()
    stage.registry.delete("app")
    stage.registry.make("app", {}, digest("new"), "1b" * 16)
    assert stage.registry.current(before) is None


def test_a_rotation_and_a_reload_leave_the_client_the_same():
    stage = Stage()
    before = stage.make()
    stage.registry.rotate("app", digest("second"), 0.0)
    stage.configure(**{"limits.rpm": 1})
    assert stage.registry.current(before).limits.rpm == 1


def test_clients_of_the_file_cannot_be_changed_and_their_names_not_be_taken():
    stage = Stage(file_client("shop"))
    registry = stage.registry
    for act in (
        lambda: stage.make("shop"),
        lambda: registry.change("shop", {}),
        lambda: registry.rotate("shop", digest("x"), 0.0),
        lambda: registry.delete("shop"),
    ):
        with pytest.raises(Conflict, match=r"clients\.yaml") as refused:
            act()
        assert refused.value.reason == "client_of_file"


def test_a_name_is_given_once():
    stage = Stage()
    stage.registry.configure(None, UTC, ["shop"])
    with pytest.raises(Conflict, match="access token"):
        stage.make("shop")
    stage.make()
    with pytest.raises(Conflict, match="exists"):
        stage.make(token="other")
    assert stage.whose("other") is None


def test_a_file_with_the_name_or_token_of_a_client_that_was_made_is_mistaken():
    stage = Stage()
    stage.make()
    file = ClientsFile(
        "clients.yaml",
        (file_client("app", "x"), file_client("copy", "first"), file_client("good", "y")),
    )
    found = [fault.message for fault in stage.registry.conflicts(file)]
    assert [text.split(" (")[0] for text in found] == [
        "'app' is the name of a client that was made at run time",
        "has the token of the client 'app', which was made at run time",
    ]
    stage.registry.delete("app")
    assert not list(stage.registry.conflicts(file))


def test_an_access_token_with_the_name_of_a_client_that_was_made_is_mistaken():
    stage = Stage()
    stage.make()
    tokens = [
        AccessToken(name, Secret(name), place=Fault("proxy.yaml", 7, "", ""))
        for name in ("app", "other")
    ]
    found = [str(fault) for fault in stage.registry.conflicts(None, tokens)]
    assert [text.split(" (")[0] for text in found] == [
        "proxy.yaml:7: 'app' is the name of a client that was made at run time",
    ]


def test_a_reload_replaces_the_clients_of_the_file_and_leaves_the_others():
    stage = Stage(file_client("old", "x"), file_client("kept", "y"))
    made = stage.make(expires="2027-06-30")
    stage.configure(file_client("new", "y"))
    assert [stage.whose(token) for token in ("x", "y", "first")] == [None, "new", "app"]
    # Thousands of them would take too long at each reload.
    assert stage.registry.client("app") is made
    stage.configure(file_client("new", "y"), **{"limits.rpm": 5})
    assert stage.registry.client("app").limits.rpm == 5
    stage.registry.configure(None, ZoneInfo("Europe/Berlin"))
    assert stage.registry.client("app").expires.at == made.expires.at - 7200
    assert [stage.whose(token) for token in ("y", "first")] == [None, "app"]


def test_a_reload_leaves_clients_of_the_file_that_have_not_changed():
    """Thousands of them would hold up requests."""
    stage = Stage(file_client("kept", "x"), file_client("changed", "y"))
    kept, changed = stage.registry.clients()
    now = (file_client("kept", "x"), file_client("changed", "y", **{"limits.rpm": 5}))
    stage.configure(*now)
    assert stage.registry.client("kept") is kept
    assert stage.registry.client("changed") is not changed
    stage.configure(*now, **{"limits.tpm": 7})
    assert [each.limits for each in stage.registry.clients()] == [
        Limits(tpm=7),
        Limits(rpm=5, tpm=7),
    ]


def test_a_conflict_that_is_found_late_ends_without_a_trace():
    """The state was read after the file: the client of the state has the token until then."""
    stage = Stage(file_client("theirs", "first"))
    stage.make()
    assert stage.whose("first") == "app"
    stage.configure(file_client("other", "x"))
    assert [stage.whose(token) for token in ("first", "x")] == ["app", "other"]
    stage.configure(file_client("theirs", "first"))
    stage.registry.delete("app")
    stage.configure(file_client("theirs", "first"))
    assert stage.whose("first") == "theirs"


def test_the_state_of_an_earlier_run_is_restored():
    row = ClientRow("app", IDENTITY, 1.0, 2.0, digest("first"), settings={"limits.rpm": 3})
    stage = Stage()
    stage.registry.restore([row])
    assert stage.registry.client("app").limits.rpm == 3
    assert stage.registry.rows() == (row,)


# -- expiry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "zone", "ends"),
    [
        ("2027-06-30", "UTC", "2027-07-01T00:00:00+00:00"),
        ("2027-06-30", "Europe/Berlin", "2027-06-30T22:00:00+00:00"),
        # The last day of summer time has 25 hours, the first one 23.
        ("2026-10-25", "Europe/Berlin", "2026-10-25T23:00:00+00:00"),
        ("2026-03-29", "Europe/Berlin", "2026-03-29T22:00:00+00:00"),
        # In Beirut the clocks are put forward at midnight: the day begins at 01:00.
        ("2026-03-28", "Asia/Beirut", "2026-03-28T22:00:00+00:00"),
        ("2027-06-30T12:00:00Z", "Europe/Berlin", "2027-06-30T12:00:00+00:00"),
        ("2027-06-30t12:00:00.5+02:00", "UTC", "2027-06-30T10:00:00.500000+00:00"),
        ("2016-12-31T23:59:60Z", "UTC", "2016-12-31T23:59:59+00:00"),
    ],
)
def test_a_date_ends_with_its_day_and_a_time_at_once(text, zone, ends):
    expiry = expiry_of(text, ZoneInfo(zone))
    assert datetime.fromtimestamp(expiry.at, UTC).isoformat() == ends
    assert expiry.text == text


def test_the_last_day_of_the_calendar_never_ends():
    assert expiry_of("9999-12-31", UTC).at == float("inf")
    assert expiry_of("9999-12-31T23:59:59-12:00", UTC).at > 2.5e11


@pytest.mark.parametrize(
    "text",
    ["-", "2027-02-30", "2027-6-3", "20270630", "2027-06-30T12:00:00", "2027-06-30 12:00", "x"],
)
def test_anything_else_is_no_expiry(text):
    with pytest.raises(ValueError, match=r"."):
        expiry_of(text, UTC)


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "names", "allowed"),
    [
        ((), ("any",), True),
        (("gemini-3*",), ("gemini-3.8-flash",), True),
        (("gemini-3*",), ("gpt-4o", "gemini-3.8-flash"), True),
        (("gpt-4o",), ("gpt-4o", "gemini-3.8-flash"), True),
        (("gemini-3*",), ("gemini-2.5-flash",), False),
        (("gemini-3*",), ("models/gemini-3.8-flash",), True),
        (("models/gemini-3*",), ("gemini-3.8-flash",), True),
        (("gemini-?",), ("gemini-3.8-flash",), False),
        (("gemini.3",), ("gemini-3",), False),
        (("a", "[bc]d"), ("cd",), True),
        (("gemini-3*",), ("x\ngemini-3",), False),
    ],
)
def test_a_model_may_be_asked_if_one_of_its_names_matches(patterns, names, allowed):
    assert may_ask(patterns, *names) is allowed
