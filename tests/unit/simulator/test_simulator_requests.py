"""What the simulator refuses in a request, as Google does, and what it takes."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.simulator import config_for, wire
from gemproxy.simulator.api import Api
from gemproxy.simulator.keyring import Keyring
from gemproxy.simulator.recording import received

USER = {"role": "user", "parts": [{"text": "Hello"}]}
WEATHER = {"functionDeclarations": [{"name": "get_weather"}]}
CALL = {"functionCall": {"name": "get_weather", "args": {}}}
SIGNED = {**CALL, "thoughtSignature": "c2lnbmF0dXJl"}
RESULT = {"functionResponse": {"name": "get_weather", "response": {"output": "mild"}}}


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def model(*parts):
    return {"role": "model", "parts": list(parts)}


def request(*contents, **fields):
    return {"contents": list(contents) or [USER], **fields}


def config(**fields):
    return request(generationConfig=fields)


def json_answer(schema):
    return config(responseMimeType="application/json", responseJsonSchema=schema)


def thinking(**fields):
    return config(thinkingConfig=fields)


def declared(**function):
    return request(tools=[{"functionDeclarations": [{"name": "f", **function}]}])


def calling(**fields):
    return request(tools=[WEATHER], toolConfig={"functionCallingConfig": fields})


def many_items(*limits):
    arrays = {f"a{at}": {"type": "array", "maxItems": most} for at, most in enumerate(limits)}
    return json_answer({"type": "object", "properties": arrays})


PICTURE = model({"inlineData": {"mimeType": "image/png", "data": "QUJD"}})
FLASH, LITE, PRO = "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro"
NEW, ARGON, HYDROGEN = "gemini-3.8-flash", "gemini-4-argon", "gemini-4-hydrogen"

REFUSED = [
    # contents
    ("contents is not specified", NEW, {}),
    ("contents is not specified", NEW, {"contents": []}),
    (
        "Please use a valid role: user, model.",
        NEW,
        request({"role": "system", "parts": [{"text": "x"}]}),
    ),
    ("parts must not be empty", NEW, request(user())),
    ("required oneof field 'data'", NEW, request(user({}))),
    ("required oneof field 'data'", NEW, request(user({"text": ""}))),
    ("oneof field 'data' is already set", NEW, request(user({"text": "a", "inlineData": {}}))),
    # the JSON front end
    ('Unknown name "stream": Cannot find field.', NEW, request(stream=True)),
    ("Unknown name \"foo\" at 'contents[0].parts[0]'", NEW, request(user({"text": "a", "foo": 1}))),
    ("Unknown name \"seeed\" at 'generation_config'", NEW, config(seeed=1)),
    ('Unknown name "labels"', NEW, request(labels={"a": "b"})),
    ('Unknown name "modelArmorConfig"', NEW, request(modelArmorConfig={})),
    ('Unknown name "audioTimestamp"', NEW, config(audioTimestamp=True)),
    (
        "'streamFunctionCallArguments\" at".replace("'", '"'),
        NEW,
        calling(streamFunctionCallArguments=True),
    ),
    ('(TYPE_FLOAT), "hot"', NEW, config(temperature="hot")),
    ("(TYPE_INT32)", NEW, config(seed=2**31)),
    ("(TYPE_STRING)", NEW, request(user({"text": 5}))),
    ("cannot start list", NEW, request(systemInstruction=[{"parts": []}])),
    (
        "Base64 decoding failed",
        NEW,
        request(user({"inlineData": {"mimeType": "image/png", "data": "a*b"}})),
    ),
    ('ThinkingLevel), "EXTREME"', NEW, thinking(thinkingLevel="EXTREME")),
    # media and system instruction
    (
        "Unsupported MIME type: image/bmp",
        NEW,
        request(user({"inlineData": {"mimeType": "image/bmp", "data": "QUJD"}})),
    ),
    (
        "Developer instruction is not enabled",
        "gemini-3.8-flash-tts",
        request(systemInstruction={"parts": [{"text": "x"}]}),
    ),
    (
        "text parts only",
        NEW,
        request(
            systemInstruction={"parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}
        ),
    ),
    # function calls in the history
    (
        "function call turn comes immediately after a user turn",
        FLASH,
        request(model(CALL), user(RESULT)),
    ),
    (
        "function call turn comes immediately after a user turn",
        FLASH,
        request(USER, model({"text": "well"}), model(CALL), user(RESULT)),
    ),
    ("function response turn comes immediately after", FLASH, request(USER, user(RESULT))),
    (
        "number of function response parts is equal",
        FLASH,
        request(USER, model(CALL, CALL), user(RESULT)),
    ),
    ("number of function response parts is equal", FLASH, request(USER, model(CALL), USER)),
    ("number of function response parts is equal", FLASH, request(USER, model(CALL))),
    (
        "function_response.name: Name cannot be empty",
        FLASH,
        request(USER, model(CALL), user({"functionResponse": {"response": {}}})),
    ),
    ("missing a thought_signature", NEW, request(USER, model(CALL), user(RESULT))),
    ("missing a thought_signature", NEW, request(USER, model(CALL, SIGNED), user(RESULT, RESULT))),
    (
        "missing a thought_signature",
        ARGON,
        request(USER, model(SIGNED), user(RESULT), model(CALL), user(RESULT)),
    ),
    # tools
    (
        "Function calling config is set without function_declarations.",
        NEW,
        request(toolConfig={"functionCallingConfig": {"mode": "AUTO"}}),
    ),
    (
        "is not among the function declarations",
        NEW,
        calling(mode="ANY", allowedFunctionNames=["other"]),
    ),
    (
        "only be set when the function calling mode is ANY",
        NEW,
        calling(allowedFunctionNames=["get_weather"]),
    ),
    ("Duplicate function declaration found: get_weather", NEW, request(tools=[WEATHER, WEATHER])),
    (
        "Invalid function name",
        NEW,
        request(tools=[{"functionDeclarations": [{"name": "9 lives"}]}]),
    ),
    (
        "Tool use with function calling is unsupported",
        FLASH,
        request(tools=[WEATHER, {"googleSearch": {}}]),
    ),
    ("include_server_side_tool_invocations", NEW, request(tools=[WEATHER, {"googleSearch": {}}])),
    (
        "property is not defined",
        NEW,
        declared(parameters={"type": "OBJECT", "properties": {}, "required": ["x"]}),
    ),
    ("items: missing field", NEW, declared(parameters={"type": "array"})),
    (
        "only 'enum' and 'date-time' are supported for STRING",
        NEW,
        declared(parameters={"type": "string", "format": "uri"}),
    ),
    (
        "it must be the only field set",
        NEW,
        declared(parameters={"type": "string", "anyOf": [{"type": "string"}]}),
    ),
    ('Unknown name "$ref"', NEW, declared(parameters={"$ref": "#/x"})),
    (
        "reference to undefined schema at #/$defs/Nowhere",
        NEW,
        declared(parametersJsonSchema={"$ref": "#/$defs/Nowhere"}),
    ),
    # generationConfig
    ("Penalty is not enabled for this model", FLASH, config(presencePenalty=0.5)),
    ("Penalty is not enabled for this model", NEW, config(frequencyPenalty=-0.5)),
    ("must be in the range [0.0, 2.0]", NEW, config(temperature=2.5)),
    ("Multiple candidates is not enabled", ARGON, config(candidateCount=2)),
    ("candidate_count", FLASH, config(candidateCount=9)),
    *(
        ("Multiple candidates is not enabled", name, config(candidateCount=2))
        for name in ("gemini-3-flash-preview", "gemini-3.1-pro-preview", NEW, "gemma-4-31b-it")
    ),
    # the last turn
    *(
        ("last content is a user turn", name, request(USER, model({"text": "{"})))
        for name in (NEW, ARGON, "gemini-3.5-flash-lite", "gemini-3.6-flash")
    ),
    # images of the model's
    (
        "Image part is missing a thought_signature",
        "gemini-3-pro-image",
        request(USER, PICTURE, USER),
    ),
    # schemas
    ("Request contains an invalid argument.", NEW, many_items(500, 500)),
    ("Request contains an invalid argument.", FLASH, many_items(321, 320, 320)),
    (
        "Request contains an invalid argument.",
        NEW,
        json_answer(
            {
                "$defs": {"L": {"type": "array", "maxItems": 500}},
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/L"}, "b": {"$ref": "#/$defs/L"}},
            }
        ),
    ),
    ("stop_sequences", NEW, config(stopSequences=list("abcdef"))),
    ("logprobs can only be set", "gemini-2.5-flash", config(logprobs=2)),
    ("Logprobs is not enabled for models/", NEW, config(responseLogprobs=True)),
    ("only allowed with", NEW, config(responseJsonSchema={"type": "object"})),
    (
        "only one of response_schema",
        NEW,
        config(responseMimeType="application/json", responseSchema={}, responseJsonSchema={}),
    ),
    (
        "Function calling with a response mime type: 'application/json' is unsupported",
        FLASH,
        request(tools=[WEATHER], generationConfig={"responseMimeType": "application/json"}),
    ),
    (
        "Tool use with a response mime type",
        FLASH,
        request(
            tools=[{"googleSearch": {}}], generationConfig={"responseMimeType": "application/json"}
        ),
    ),
    (
        "You can only set only one of thinking budget and thinking level",
        NEW,
        thinking(thinkingBudget=10, thinkingLevel="LOW"),
    ),
    (
        "Budget 0 is invalid. This model only works in thinking mode.",
        PRO,
        thinking(thinkingBudget=0),
    ),
    ("The thinking budget 24577 is invalid", FLASH, thinking(thinkingBudget=24577)),
    ("The thinking budget 100 is invalid", LITE, thinking(thinkingBudget=100)),
    ("Thinking level is not supported", FLASH, thinking(thinkingLevel="LOW")),
    ("Thinking level MINIMAL is not supported", NEW, thinking(thinkingLevel="minimal")),
    ("Thinking level XHIGH is not supported", ARGON, thinking(thinkingLevel="XHIGH")),
    ("Thinking budget is not supported", ARGON, thinking(thinkingBudget=1024)),
    ("Thinking is not enabled", "gemini-2.5-flash-image", thinking(includeThoughts=True)),
    (
        "does not support the requested response modalities: image",
        NEW,
        config(responseModalities=["IMAGE"]),
    ),
    (
        "accepts the following combination of response modalities:\n* AUDIO",
        "gemini-3.8-flash-tts",
        request(),
    ),
    # the rest
    (
        "CachedContent can not be used with",
        FLASH,
        request(cachedContent="cachedContents/a", tools=[WEATHER]),
    ),
    (
        "CachedContent not found (or permission denied)",
        FLASH,
        request(cachedContent="cachedContents/a"),
    ),
    (
        "category repeated",
        NEW,
        request(safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}] * 2),
    ),
    ("Continuation tokens are not supported", NEW, request(continuationToken="MTph")),
    ("continuation token", ARGON, request(continuationToken="MTph")),
]

TAKEN = [
    *((name, request(USER, model({"text": "{"}))) for name in (FLASH, "gemini-3.5-flash")),
    (FLASH, config(candidateCount=8)),
    (NEW, many_items(480, 480)),
    (NEW, request(USER, PICTURE, USER)),
    ("gemini-2.5-flash-image", request(USER, PICTURE, USER)),
    ("gemini-3.5-flash", thinking(thinkingBudget=0)),
    ("gemma-4-31b-it", thinking(thinkingLevel="minimal")),
    ("gemma-4-31b-it", request(systemInstruction={"parts": [{"text": "x"}]})),
    (NEW, request(user({"inlineData": {"mimeType": "image/gif", "data": "QUJD"}}))),
    (NEW, request({"parts": [{"text": "no role"}]})),
    (NEW, {"contents": USER}),
    (NEW, request(generation_config={"max_output_tokens": "500"}, system_instruction=None)),
    (NEW, request(user({"inline_data": {"mime_type": "image/png", "data": "QUJD"}}))),
    (NEW, request(user({"fileData": {"fileUri": "https://youtu.be/x"}}))),
    (NEW, request(USER, USER, model({"text": "a"}), model({"text": "b"}), USER)),
    (FLASH, request(USER, model(CALL), user(RESULT))),
    (NEW, request(USER, model(SIGNED, CALL), user(RESULT, RESULT))),
    (NEW, request(USER, model(SIGNED), user(RESULT), USER)),
    (NEW, request(USER, model(CALL), user(RESULT), model({"text": "mild"}), USER)),
    (
        NEW,
        request(
            USER,
            model({**CALL, "thoughtSignature": "skip_thought_signature_validator"}),
            user(RESULT),
        ),
    ),
    (
        NEW,
        request(
            tools=[WEATHER, {"googleSearch": {}}],
            toolConfig={"includeServerSideToolInvocations": True},
        ),
    ),
    (NEW, request(tools=[WEATHER], generationConfig={"responseMimeType": "application/json"})),
    (FLASH, config(presencePenalty=0, frequencyPenalty=0.0, candidateCount=3)),
    (FLASH, thinking(thinkingBudget=0)),
    (PRO, thinking(thinkingBudget=-1)),
    (NEW, thinking(thinkingLevel="low")),
    (HYDROGEN, thinking(thinkingLevel="XHIGH")),
    ("gemini-3.8-flash-tts", config(responseModalities=["AUDIO"])),
    (
        NEW,
        request(
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
        ),
    ),
    (NEW, request(serviceTier="flex", store=False)),
]


@pytest.mark.parametrize(("text", "model_name", "body"), REFUSED)
def test_refused_with_googles_words(client, text, model_name, body):
    reply = client.post(body, model_name)
    assert reply.status in {400, 403}
    assert text in reply.message


@pytest.mark.parametrize(("model_name", "body"), TAKEN)
def test_taken(client, model_name, body):
    reply = client.post(body, model_name)
    assert reply.status == 200, reply.message


def test_every_mistake_of_the_fields_is_listed_with_its_place(client):
    reply = client.post(request(user({"text": "a", "foo": 1}), bar=2, generationConfig={"baz": 3}))
    violations = reply.error["details"][0]["fieldViolations"]
    assert [violation.get("field", "") for violation in violations] == [
        "contents[0].parts[0]",
        "",
        "generation_config",
    ]
    assert reply.message == "\n".join(violation["description"] for violation in violations)


class TestStrictSignatures:
    def conversation(self, client, signature_of=lambda part: part["thoughtSignature"]):
        tools = [WEATHER]
        first = client.say("get_weather please", tools=tools)
        part = first.parts[-1]
        replayed = {"functionCall": part["functionCall"], "thoughtSignature": signature_of(part)}
        contents = [user({"text": "get_weather please"}), model(replayed), user(RESULT)]
        return client.post({"contents": contents, "tools": tools})

    def test_the_signature_it_gave_is_taken_back(self, make_client):
        assert self.conversation(make_client(strict_signatures=True)).status == 200

    def test_another_ones_signature_is_refused(self, make_client):
        client = make_client(strict_signatures=True)
        reply = self.conversation(client, lambda _part: "c2lnbmF0dXJl")
        assert reply.message.startswith("Corrupted thought signature")

    @pytest.mark.parametrize("encode", [str, lambda text: base64.b64encode(text.encode()).decode()])
    def test_a_documented_dummy_passes(self, make_client, encode):
        client = make_client(strict_signatures=True)
        dummy = encode("context_engineering_is_the_way_to_go")
        assert self.conversation(client, lambda _part: dummy).status == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["contents", "parts", "text", "role", "tools", "generationConfig", "x"]
            ),
            below,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_document_is_parsed_or_refused_in_words(document):
    parsed, violations = wire.parse("GenerateContentRequest", document)
    assert isinstance(parsed, dict)
    assert all(isinstance(text, str) and text for _, text in violations)


@given(body=st.dictionaries(st.sampled_from(["contents", "tools", "generationConfig"]), JSON))
def test_any_body_gets_an_answer_or_an_error(body):
    settings = config_for([("one", "k")])
    path = "/v1beta/models/gemini-3.8-flash:generateContent"
    exchange = received(1, 0.0, "POST", path, {}, {"x-goog-api-key": "k"})
    steps = list(Api(settings, Keyring(settings)).respond(exchange, json.dumps(body).encode(), 0.0))
    assert steps[0].status in {200, 400}
