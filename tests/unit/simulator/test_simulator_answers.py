"""What the simulated models say: text, thoughts, JSON, calls, pictures, and how it is cut."""

import base64
import json
import struct
import zlib

import pytest

from gemproxy.simulator import words

NEW, FLASH, ARGON = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-4-argon"


def user(*parts):
    return {"role": "user", "parts": list(parts)}


def tools(*names, **schema):
    schema = schema or {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    }
    return [{"functionDeclarations": [{"name": n, "parametersJsonSchema": schema} for n in names]}]


def candidate(reply, at=0):
    return reply.json["candidates"][at]


def usage(reply):
    return reply.json["usageMetadata"]


def streamed_text(reply):
    parts = [
        p
        for e in reply.events
        for c in e["candidates"]
        for p in c.get("content", {}).get("parts", [])
    ]
    return "".join(p.get("text", "") for p in parts if not p.get("thought"))


class TestText:
    def test_the_answer_echoes_the_prompt(self, client):
        assert 'You said: "Hello there".' in client.say("Hello there").text

    def test_same_seed_and_request_same_answer(self, make_client):
        first, again, other = (make_client(seed=s).say("Hello").text for s in (1, 1, 2))
        assert first == again != other

    def test_response_ids_differ_even_then(self, client):
        assert client.say("Hello").json["responseId"] != client.say("Hello").json["responseId"]

    def test_a_stream_says_what_a_unary_answer_says(self, client):
        assert streamed_text(client.stream("Hello")) == client.say("Hello").text

    def test_length_follows_max_output_tokens_thoughts_included(self, client):
        reply = client.say("Hello", generationConfig={"maxOutputTokens": 60})
        assert candidate(reply)["finishReason"] == "MAX_TOKENS"
        counts = usage(reply)
        assert counts["candidatesTokenCount"] + counts["thoughtsTokenCount"] == 60

    def test_a_small_limit_is_eaten_by_thinking(self, client):
        reply = client.say("Hello", generationConfig={"maxOutputTokens": 3})
        assert candidate(reply)["content"] == {"role": "model"}
        assert candidate(reply)["finishReason"] == "MAX_TOKENS"
        assert "candidatesTokenCount" not in usage(reply)

    def test_stop_sequences_end_the_text(self, client):
        reply = client.say(
            "one STOP two [simulate:echo]", generationConfig={"stopSequences": ["STOP"]}
        )
        assert (reply.text, candidate(reply)["finishReason"]) == ("one ", "STOP")

    def test_words_sets_the_length(self, client):
        assert len(client.say("Hello [simulate:words n=400]").text.split()) > 350

    def test_chunks_sets_the_number_of_pieces(self, client):
        events = client.stream("Hello [simulate:chunks n=40]", FLASH).events
        assert 30 <= len(events) <= 45

    def test_candidates_differ_and_have_an_index(self, client):
        reply = client.say("Hello", FLASH, generationConfig={"candidateCount": 3})
        assert [c["index"] for c in reply.json["candidates"]] == [0, 1, 2]
        assert len({json.dumps(c["content"]) for c in reply.json["candidates"]}) == 3

    def test_streamed_candidates_are_told_apart_by_index(self, client):
        events = client.stream("Hello", FLASH, generationConfig={"candidateCount": 2}).events
        assert {e["candidates"][0]["index"] for e in events} == {0, 1}
        assert sum("finishReason" in e["candidates"][0] for e in events) == 2

    def test_files_are_mentioned(self, client):
        part = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
        reply = client.post({"contents": [user({"text": "Look"}, part)]})
        assert "image/png of 3 bytes" in reply.text

    def test_line_separators_stand_raw_in_the_stream(self, client):
        reply = client.stream("Hello [simulate:line-separators]")
        assert "\u2028".encode() in reply.data
        assert len(reply.events) == reply.data.count(b"\r\n\r\n")


class TestThinking:
    def test_summaries_come_only_when_asked_for(self, client):
        with_thoughts = client.say(
            "Hi", generationConfig={"thinkingConfig": {"includeThoughts": True}}
        )
        assert [p.get("thought") for p in with_thoughts.parts] == [True, True, None]
        assert len(client.say("Hi").parts) == 1

    def test_thoughts_are_counted_beside_the_answer(self, client):
        counts = usage(client.say("Hi"))
        assert counts["thoughtsTokenCount"] > 0
        assert counts["totalTokenCount"] == (
            counts["promptTokenCount"]
            + counts["candidatesTokenCount"]
            + counts["thoughtsTokenCount"]
        )

    def test_budget_zero_switches_thinking_off_on_flash(self, client):
        config = {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": True}}
        reply = client.say("Hi", FLASH, generationConfig=config)
        assert "thoughtsTokenCount" not in usage(reply)
        assert len(reply.parts) == 1

    def test_a_higher_level_thinks_longer(self, client):
        def thoughts(level):
            config = {"thinkingConfig": {"thinkingLevel": level}}
            return usage(client.say("Hi", generationConfig=config))["thoughtsTokenCount"]

        assert thoughts("low") < thoughts("high")

    def test_a_streamed_thought_comes_before_the_text(self, client):
        config = {"thinkingConfig": {"includeThoughts": True}}
        events = client.stream("Hi", generationConfig=config).events
        assert events[0]["candidates"][0]["content"]["parts"][0]["thought"] is True
        assert "candidatesTokenCount" not in events[0]["usageMetadata"]

    def test_gemini_3_signs_its_text_at_the_end(self, client):
        last = client.stream("Hi").events[-1]["candidates"][0]
        assert last["content"]["parts"][0]["text"] == ""
        assert last["content"]["parts"][0]["thoughtSignature"]
        assert "thoughtSignature" not in json.dumps(client.say("Hi", FLASH).json)


SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["a", "b"]},
        "count": {"type": "integer", "minimum": 3, "maximum": 4},
    },
    "required": ["kind", "count"],
}


class TestStructuredOutput:
    @pytest.mark.parametrize("field", ["responseJsonSchema", "responseSchema"])
    def test_the_answer_fits_the_schema(self, client, field):
        schema = SCHEMA
        if field == "responseSchema":
            schema = json.loads(json.dumps(schema).replace('{"enum"', '{"type": "STRING", "enum"'))
        config = {"responseMimeType": "application/json", field: schema}
        value = json.loads(client.say("Hi", generationConfig=config).text)
        assert value["kind"] in {"a", "b"}
        assert value["count"] in {3, 4}

    def test_json_without_a_schema_is_an_object(self, client):
        reply = client.say("Hi", generationConfig={"responseMimeType": "application/json"})
        assert isinstance(json.loads(reply.text), dict)

    def test_an_enum_is_one_of_its_words(self, client):
        config = {
            "responseMimeType": "text/x.enum",
            "responseSchema": {"type": "STRING", "enum": ["x", "y"]},
        }
        assert client.say("Hi", generationConfig=config).text in {"x", "y"}

    def test_a_schema_that_asks_for_too_much_is_cut_off_and_not_built(self, client):
        node = {
            "type": "object",
            "properties": {k: {"$ref": "#/$defs/N"} for k in "ab"},
            "required": ["a", "b"],
        }
        schema = {
            "$defs": {"N": node},
            "type": "array",
            "items": {"$ref": "#/$defs/N"},
            "minItems": 5000,
        }
        config = {"responseMimeType": "application/json", "responseJsonSchema": schema}
        assert len(client.say("Hi", generationConfig=config).data) < 2_000_000


class TestCalls:
    def test_a_mentioned_function_is_called_with_arguments_of_its_schema(self, client):
        reply = client.say("Please get_weather", tools=tools("get_time", "get_weather"))
        (part,) = reply.parts
        assert part["functionCall"]["name"] == "get_weather"
        assert isinstance(part["functionCall"]["args"]["city"], str)
        assert candidate(reply)["finishReason"] == "STOP"
        assert candidate(reply)["finishMessage"] == "Model generated function call(s)."

    def test_unmentioned_functions_are_not_called(self, client):
        assert "text" in client.say("Hello", tools=tools("get_weather")).parts[0]

    def test_part_of_a_word_is_no_mention(self, client):
        assert "text" in client.say("get_weathers", tools=tools("get_weather")).parts[0]

    def test_the_prompt_can_spell_calls_out(self, client):
        text = 'call b with {"x": {"y": 1}} and call a with {"z": "}"}'
        calls = [p["functionCall"] for p in client.say(text, tools=tools("a", "b")).parts]
        assert [(c["name"], c["args"]) for c in calls] == [
            ("b", {"x": {"y": 1}}),
            ("a", {"z": "}"}),
        ]

    def test_in_parallel_calls_all_and_signs_the_first_only(self, client):
        parts = client.say("a and b in parallel", tools=tools("a", "b", "c")).parts
        assert [p["functionCall"]["name"] for p in parts] == ["a", "b"]
        assert ["thoughtSignature" in p for p in parts] == [True, False]
        assert len({p["functionCall"]["id"] for p in parts}) == 2

    @pytest.mark.parametrize(
        ("config", "called"),
        [
            ({"mode": "ANY"}, "a"),
            ({"mode": "ANY", "allowedFunctionNames": ["b"]}, "b"),
        ],
    )
    def test_mode_any_must_call(self, client, config, called):
        reply = client.say(
            "Hello", tools=tools("a", "b"), toolConfig={"functionCallingConfig": config}
        )
        assert reply.parts[0]["functionCall"]["name"] == called

    def test_mode_any_calls_in_the_end_what_was_not_called(self, client):
        declared = tools("a", "b")
        config = {"functionCallingConfig": {"mode": "ANY"}}
        part = client.say("call a", tools=declared).parts[0]
        result = {"functionResponse": {"name": "a", "response": {"output": "21 degrees"}}}
        contents = [user({"text": "call a"}), {"role": "model", "parts": [part]}, user(result)]
        body = {"contents": contents, "tools": declared, "toolConfig": config}
        assert client.post(body).parts[0]["functionCall"]["name"] == "b"

    def test_mode_none_does_not_call(self, client):
        config = {"functionCallingConfig": {"mode": "NONE"}}
        assert "text" in client.say("call a", tools=tools("a"), toolConfig=config).parts[0]

    @pytest.mark.parametrize(
        ("model", "has_id", "signed"),
        [
            (FLASH, False, False),
            ("gemini-3-flash-preview", False, True),
            ("gemini-3.1-pro-preview", True, True),
            (NEW, True, True),
        ],
    )
    def test_ids_and_signatures_by_family(self, client, model, has_id, signed):
        part = client.say("call a", model, tools=tools("a")).parts[0]
        assert ("id" in part["functionCall"], "thoughtSignature" in part) == (has_id, signed)

    def test_results_are_answered_with_text_about_them(self, client):
        declared = tools("a")
        part = client.say("call a", tools=declared).parts[0]
        result = {"functionResponse": {"name": "a", "response": {"output": "21 degrees"}}}
        contents = [user({"text": "call a"}), {"role": "model", "parts": [part]}, user(result)]
        assert "21 degrees" in client.post({"contents": contents, "tools": declared}).text

    def test_the_prompt_can_spell_one_step_after_another_out(self, client):
        declared = tools("a", "b")
        contents = [user({"text": 'call a with {"x": 1} and call b, then call b with {"y": 2}'})]
        steps = []
        while True:
            parts = client.post({"contents": contents, "tools": declared}).parts
            calls = [part["functionCall"] for part in parts if "functionCall" in part]
            if not calls:
                break
            steps.append([(call["name"], call["args"]) for call in calls])
            results = [
                {"functionResponse": {"id": c["id"], "name": c["name"], "response": {"n": 1}}}
                for c in calls
            ]
            contents += [{"role": "model", "parts": parts}, user(*results)]
        (first, second), *later = steps
        assert (first, second[0]) == (("a", {"x": 1}), "b")
        assert later == [[("b", {"y": 2})]]

    def test_a_function_can_be_called_unasked(self, client):
        parts = client.say("Hello [simulate:eager-call]", tools=tools("a", "b")).parts
        assert [part["functionCall"]["name"] for part in parts] == ["a"]
        assert "text" in client.say("Hello [simulate:eager-call]").parts[0]

    def test_gemini_3_streams_the_finish_after_the_call(self, client):
        events = client.stream("call a", tools=tools("a")).events
        assert "functionCall" in events[0]["candidates"][0]["content"]["parts"][0]
        assert "finishReason" not in events[0]["candidates"][0]
        assert events[1]["candidates"][0]["content"]["parts"] == [{"text": ""}]
        assert events[1]["candidates"][0]["finishReason"] == "STOP"

    def test_gemini_2_5_finishes_with_the_call(self, client):
        (event,) = client.stream("call a", FLASH, tools=tools("a")).events
        assert event["candidates"][0]["finishReason"] == "STOP"


class TestOtherContents:
    def test_search_gives_sources_with_byte_offsets(self, client):
        reply = client.say("What is new in 東京?", tools=[{"googleSearch": {}}])
        grounding = candidate(reply)["groundingMetadata"]
        segment = grounding["groundingSupports"][0]["segment"]
        part = reply.text.encode()[segment.get("startIndex", 0) : segment["endIndex"]]
        assert part.decode() == segment["text"]
        assert segment["endIndex"] > len(reply.text)
        assert usage(reply)["toolUsePromptTokenCount"] > 0

    def test_log_probabilities_cover_the_text(self, client):
        config = {"responseLogprobs": True, "logprobs": 3}
        reply = client.say("Hello", FLASH, generationConfig=config)
        result = candidate(reply)["logprobsResult"]
        assert "".join(c["token"] for c in result["chosenCandidates"]) == reply.text
        assert all(len(top["candidates"]) == 3 for top in result["topCandidates"])
        assert all(c["logProbability"] <= 0 for c in result["chosenCandidates"])

    def test_streamed_log_probabilities_are_those_of_the_chunk(self, client):
        events = client.stream("Hello", FLASH, generationConfig={"responseLogprobs": True}).events
        for event in events:
            (one,) = event["candidates"]
            chosen = one["logprobsResult"]["chosenCandidates"]
            assert "".join(c["token"] for c in chosen) == one["content"]["parts"][0]["text"]

    def test_a_picture_is_a_valid_png(self, client):
        reply = client.say("A cat", "gemini-3.1-flash-image")
        assert "text" in reply.parts[0]
        png = base64.b64decode(reply.parts[1]["inlineData"]["data"], validate=True)
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        at = 8
        while at < len(png):
            (length,) = struct.unpack(">I", png[at : at + 4])
            body = png[at + 4 : at + 8 + length]
            assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(
                body
            )
            at += 12 + length
        assert usage(reply)["candidatesTokensDetails"][0]["modality"] == "IMAGE"

    def test_speech_is_raw_pcm(self, client):
        reply = client.say(
            "Hi", "gemini-3.8-flash-tts", generationConfig={"responseModalities": ["AUDIO"]}
        )
        blob = reply.parts[0]["inlineData"]
        assert blob["mimeType"] == "audio/L16;codec=pcm;rate=24000"
        assert len(base64.b64decode(blob["data"])) % 2 == 0

    def test_a_blocked_prompt_has_no_candidates(self, client):
        body = client.say("[simulate:block reason=PROHIBITED_CONTENT]").json
        assert "candidates" not in body
        assert body["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"

    @pytest.mark.parametrize(
        ("shape", "reason", "content"),
        [
            ("safety text=false", "SAFETY", {}),
            ("finish reason=OTHER", "OTHER", None),
            ("malformed-call", "MALFORMED_FUNCTION_CALL", None),
            ("no-parts", "STOP", {"role": "model"}),
            ("finish reason=SOMETHING_NEW", "SOMETHING_NEW", None),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    def test_endings_without_content(self, client, shape, reason, content, stream):
        text = f"[simulate:{shape}]"
        one = (
            client.stream(text).events[-1]["candidates"][0]
            if stream
            else candidate(client.say(text))
        )
        assert (one["finishReason"], one.get("content")) == (reason, content)

    def test_recitation_names_its_sources(self, client):
        one = candidate(client.say("[simulate:recitation]"))
        assert one["citationMetadata"]["citationSources"][0]["uri"]

    def test_cached_tokens_are_part_of_the_prompt(self, client):
        counts = usage(client.say("word " * 90 + "[simulate:cached tokens=50]"))
        assert counts["cachedContentTokenCount"] == 50 < counts["promptTokenCount"]


class TestFinishStyles:
    @pytest.mark.parametrize(
        ("style", "last"),
        [
            ("finish-extra", {"parts": [{"text": ""}], "role": "model"}),
            ("finish-no-parts", {"role": "model"}),
            ("finish-no-content", None),
        ],
    )
    def test_an_extra_chunk(self, client, style, last):
        events = client.stream(f"Hi [simulate:{style}]", FLASH).events
        assert events[-1]["candidates"][0].get("content") == last
        assert [e for e in events if "finishReason" in e["candidates"][0]] == events[-1:]

    def test_the_last_content_chunk(self, client):
        last = client.stream("Hi [simulate:finish-last]").events[-1]["candidates"][0]
        assert last["content"]["parts"][0]["text"]
        assert last["finishReason"] == "STOP"

    def test_every_chunk(self, client):
        events = client.stream("Hi [simulate:finish-twice]").events
        assert len(events) > 1
        assert all(e["candidates"][0]["finishReason"] == "STOP" for e in events)

    def test_usage_after_the_finish(self, client):
        events = client.stream("Hi [simulate:usage-last]").events
        assert "candidates" not in events[-1]
        assert events[-1]["usageMetadata"]["totalTokenCount"] > 0


class TestLongAnswers:
    def hops(self, client, method):
        contents = [user({"text": "A novel [simulate:long hops=2]"})]
        body, reasons = {"contents": contents}, []
        while True:
            reply = client.post(body, ARGON, method)
            last = reply.events[-1] if "stream" in method else reply.json
            one = last["candidates"][0]
            reasons.append(one["finishReason"])
            if "continuationToken" not in one:
                return reasons
            body = {"contents": contents, "continuationToken": one["continuationToken"]}

    @pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent?alt=sse"])
    def test_the_token_leads_to_the_end(self, client, method):
        assert self.hops(client, method) == ["CONTINUATION", "CONTINUATION", "STOP"]

    def test_the_token_is_for_the_identical_request(self, client):
        text = "A novel [simulate:long]"
        token = candidate(client.say(text, ARGON))["continuationToken"]
        reply = client.say(text, ARGON, continuationToken=token, generationConfig={"seed": 4})
        assert reply.status == 400

    def test_older_models_do_not_hop(self, client):
        assert candidate(client.say("A novel [simulate:long]"))["finishReason"] == "STOP"


@pytest.mark.parametrize(
    "text", ["", "plain words", "  spaces  and\nlines ", "東京 → 🙂!", "a" * 50]
)
def test_tokens_joined_are_the_text(text):
    assert "".join(words.tokens(text)) == text
