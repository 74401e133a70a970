"""What the tests of the contracts share: a well-behaved upstream, and the admin API's contract."""

from datetime import datetime, timedelta

import pytest
import yaml
from fakes.running import REPOSITORY
from jsonschema import Draft202012Validator, FormatChecker

CONTRACT = REPOSITORY.parent / "shared" / "contracts" / "admin-api.yaml"
TIMES = FormatChecker(formats=())


@pytest.fixture(autouse=True)
def _well_behaved_upstream(simulator):
    simulator.reset()


@pytest.fixture(scope="module")
def contract():
    if not CONTRACT.is_file():
        pytest.skip(f"the contract is not beside this repository: {CONTRACT}")
    return yaml.safe_load(CONTRACT.read_text())


@pytest.fixture
def fits(contract):
    """``fits(answer, route, method)``: the answer is what the contract says of its status."""

    def check(answer, route, method="get"):
        responses = contract["paths"][route][method]["responses"]
        response = resolved(contract, responses[str(answer.status)])
        kind = answer.headers["content-type"].partition(";")[0]
        schema = {**response["content"][kind]["schema"], "components": contract["components"]}
        body = answer.body.decode() if kind == "text/plain" else answer.json
        Draft202012Validator(schema, format_checker=TIMES).validate(body)

    return check


@TIMES.checks("date-time")
def is_utc(value):
    if not isinstance(value, str):
        return True
    return value.endswith("Z") and datetime.fromisoformat(value).utcoffset() == timedelta(0)


def resolved(contract, node):
    if "$ref" not in node:
        return node
    for step in node["$ref"].removeprefix("#/").split("/"):
        contract = contract[step]
    return contract
