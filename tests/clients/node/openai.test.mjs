// openai-node with nothing changed but baseURL.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import * as proxy from "./gemproxy.mjs";

const { MODEL } = proxy;
const EMBEDDING = "gemini-embedding-001";
const client = new OpenAI({ baseURL: proxy.URL_, apiKey: proxy.TOKEN, maxRetries: 0 });
const said = (content, more = {}) => ({
  model: MODEL,
  messages: [{ role: "user", content }],
  ...more,
});

beforeEach(proxy.reset);

const WEATHER = 'Please call get_weather with {"city": "Oslo"}';
const BOTH = `${WEATHER} and call get_time with {"zone": "Europe/Oslo"}`;

/** Two tools, and the calls of them in the order in which they ran. */
function tools() {
  const ran = [];
  const tool = (name, parameters, answer) =>
    zodFunction({
      name,
      parameters: z.object(parameters),
      function: (given) => {
        ran.push([name, given]);
        return answer;
      },
    });
  const both = [
    tool("get_weather", { city: z.string() }, { celsius: 4 }),
    tool("get_time", { zone: z.string() }, "12:30"),
  ];
  return { ran, tools: both };
}

test("a completion", async () => {
  const completion = await client.chat.completions.create(said("How are rivers made?"));
  const [choice] = completion.choices;
  assert.equal(completion.model, MODEL);
  assert.equal(choice.finish_reason, "stop");
  assert.match(choice.message.content, /^You said: "How are rivers made\?"/);
  const { usage } = completion;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.match(completion._request_id, /^req_/);
});

// This version asks for base64 by itself, and reads a list of numbers as if it were that.
test("embeddings of 250 texts", async () => {
  const input = Array.from({ length: 250 }, (_, place) => `text ${place}`);
  const asked = { model: EMBEDDING, input, dimensions: 256 };
  const answer = await client.embeddings.create(asked);
  const numbers = await client.embeddings.create({ ...asked, encoding_format: "float" });
  assert.deepEqual(
    answer.data.map((item) => item.index),
    [...input.keys()],
  );
  for (const [place, { embedding }] of answer.data.entries()) {
    assert.equal(embedding.length, 256);
    assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-6);
    assert.deepEqual(embedding, numbers.data[place].embedding.map(Math.fround));
  }
  assert.ok(answer.usage.prompt_tokens > 0);
  assert.equal((await proxy.requests()).length, 6);
});

test("the list of models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).owned_by, "google");
});

test("embeddings, which the SDK asks for in base64 unless told otherwise", async () => {
  const asked = { model: "gemini-embedding-2", input: ["One.", "Two."], dimensions: 768 };
  const decoded = await client.embeddings.create(asked);
  const numbers = await client.embeddings.create({ ...asked, encoding_format: "float" });
  assert.equal(decoded.data.length, 2);
  for (const [index, { embedding }] of decoded.data.entries()) {
    assert.equal(embedding.length, 768);
    const apart = embedding.map((value, at) => value - numbers.data[index].embedding[at]);
    assert.ok(Math.max(...apart.map(Math.abs)) < 1e-6);
  }
});

test("the helper of streams ends with what the unary answer says", async () => {
  const asked = said("How are rivers made? [simulate:words n=60]");
  const stream = client.chat.completions.stream({
    ...asked,
    stream_options: { include_usage: true },
  });
  let text = "";
  let chunks = 0;
  stream.on("content", (delta) => (text += delta)).on("chunk", () => (chunks += 1));
  const final = await stream.finalChatCompletion();
  const whole = await client.chat.completions.create(asked);
  assert.ok(chunks > 5, `${chunks} chunks`);
  assert.equal(final.choices[0].message.content, text);
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.deepEqual(final.usage, whole.usage);
  assert.equal((await stream.totalUsage()).total_tokens, whole.usage.total_tokens);
});

test("thoughts are there where they were asked for", async () => {
  const stream = await client.chat.completions.create(
    said("Why?", { reasoning_effort: "low", stream: true }),
  );
  let thoughts = "";
  for await (const chunk of stream) thoughts += chunk.choices[0]?.delta.reasoning_content ?? "";
  assert.ok(thoughts.length > 0);
});

describe("structured output", () => {
  const Event = z.object({
    name: z.string(),
    guests: z.array(z.object({ name: z.string(), age: z.number().int() })),
    kind: z.enum(["party", "talk"]),
    note: z.string().nullable(),
  });
  const asked = said("Describe an event.", {
    response_format: zodResponseFormat(Event, "event"),
  });

  test("is parsed", async () => {
    const completion = await client.chat.completions.parse(asked);
    const { parsed } = completion.choices[0].message;
    assert.deepEqual(Event.parse(parsed), parsed);
    const [request] = await proxy.requests();
    assert.equal(request.body.generationConfig.responseMimeType, "application/json");
  });

  test("is parsed at the end of a stream", async () => {
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    const { parsed } = final.choices[0].message;
    assert.deepEqual(Event.parse(parsed), parsed);
  });

  test("arguments of tools are parsed", async () => {
    const { tools: offered } = tools();
    const completion = await client.chat.completions.parse(said(BOTH, { tools: offered }));
    const calls = completion.choices[0].message.tool_calls;
    const parsed = calls.map((call) => call.function.parsed_arguments);
    assert.deepEqual(parsed, [{ city: "Oslo" }, { zone: "Europe/Oslo" }]);
  });
});

describe("runTools", () => {
  for (const model of proxy.MODELS) {
    for (const stream of [false, true]) {
      const asked = { ...said(BOTH), model, stream };

      test(`${model}${stream ? ", streamed" : ""}: over three questions`, async () => {
        const { ran, tools: offered } = tools();
        const messages = [...asked.messages];
        for (const question of [null, 'Now call get_time with {"zone": "Asia/Tokyo"}', "Thanks!"]) {
          if (question) messages.push({ role: "user", content: question });
          const runner = client.chat.completions.runTools({ ...asked, messages, tools: offered });
          const text = await runner.finalContent();
          assert.ok(text.length > 0);
          messages.splice(0, messages.length, ...runner.messages);
        }
        assert.deepEqual(ran, [
          ["get_weather", { city: "Oslo" }],
          ["get_time", { zone: "Europe/Oslo" }],
          ["get_time", { zone: "Asia/Tokyo" }],
        ]);
        const roles = messages.map((message) => message.role).join(" ");
        const loop = "user assistant tool tool assistant user assistant tool assistant";
        assert.equal(roles, `${loop} user assistant`);
        await proxy.nothingRefused();
        // Of calls in parallel only the first is signed; the next question's call is as well.
        assert.deepEqual(await proxy.signedCalls(), [{ city: "Oslo" }, { zone: "Asia/Tokyo" }]);
      });

      test(`${model}${stream ? ", streamed" : ""}: several steps of one turn`, async () => {
        const { ran, tools: offered } = tools();
        const runner = client.chat.completions.runTools(
          { ...asked, ...said(WEATHER), model, tools: offered, tool_choice: "required" },
          { maxChatCompletions: 4 },
        );
        await runner.done();
        assert.equal(ran.length, 4);
        await proxy.nothingRefused();
        const requests = await proxy.requests();
        assert.equal(requests.length, 4);
        assert.equal((await proxy.signedCalls()).length, 3);
      });
    }
  }

  const renamed = (id) => `of-my-own-${id.length}`;
  for (const [what, id] of Object.entries({ "as it came": (id) => id, "of its own": renamed })) {
    test(`signatures come back where a client keeps what it knows, and an id ${what}`, async () => {
      const { tools: offered } = tools();
      const asked = said(WEATHER, { tools: offered });
      const first = (await client.chat.completions.create(asked)).choices[0].message;
      const [call] = first.tool_calls;
      const { name, arguments: text } = call.function;
      asked.messages.push(
        {
          role: "assistant",
          tool_calls: [{ id: id(call.id), type: "function", function: { name, arguments: text } }],
        },
        { role: "tool", tool_call_id: id(call.id), content: "4 degrees" },
      );
      await client.chat.completions.create(asked);
      assert.equal((await proxy.signedCalls()).length, 1);
    });
  }
});

describe("a stream that breaks", () => {
  for (const [how, model] of proxy.BREAKS) {
    const asked = said(`Tell me a story. [simulate:${how} chunks=2]`, { model, stream: true });

    test(`${how}: iteration throws after the text that came`, async () => {
      const stream = await client.chat.completions.create(asked);
      let text = "";
      await assert.rejects(async () => {
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
      }, OpenAI.APIError);
      assert.ok(text.length > 0);
    });

    test(`${how}: the helper rejects`, async () => {
      const stream = client.chat.completions.stream(asked);
      await assert.rejects(stream.finalChatCompletion(), OpenAI.OpenAIError);
    });

    test(`${how}: runTools rejects`, async () => {
      const runner = client.chat.completions.runTools({ ...asked, ...tools() });
      await assert.rejects(runner.finalContent(), OpenAI.OpenAIError);
    });
  }
});

describe("errors", () => {
  test("a wrong token", async () => {
    const stranger = new OpenAI({ baseURL: proxy.URL_, apiKey: "a-wrong-token" });
    await assert.rejects(stranger.chat.completions.create(said("Hello")), (error) => {
      assert.ok(error instanceof OpenAI.AuthenticationError);
      assert.equal(error.code, "invalid_api_key");
      return true;
    });
    assert.deepEqual(await proxy.requests(), []);
  });

  test("an unknown model", async () => {
    const asked = said("Hello", { model: "llama3:latest" });
    await assert.rejects(client.chat.completions.create(asked), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return true;
    });
  });

  test("a mistake names its field", async () => {
    const asked = said("Hello", { temperature: 9 });
    await assert.rejects(client.chat.completions.create(asked), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "temperature");
      return true;
    });
  });

  test("an embedding of tokens", async () => {
    await assert.rejects(client.embeddings.create({ model: EMBEDDING, input: [1, 2] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "input");
      assert.match(error.message, /token arrays are not supported/);
      return true;
    });
  });

  test("an aborted stream ends quietly", async () => {
    const stream = await client.chat.completions.create(
      said("Go on. [simulate:words n=2000] [simulate:slow delay=0 chunkDelay=0.05]", {
        stream: true,
      }),
    );
    for await (const _ of stream) break;
    assert.ok(stream.controller.signal.aborted);
  });
});
