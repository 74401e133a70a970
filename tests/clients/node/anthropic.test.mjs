// Anthropic's own SDK, newest and an older major that sends its key as x-api-key, and the AI SDK's
// provider for it.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import * as newest from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import * as older from "@anthropic-ai/sdk-0";
import { APICallError, Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { looking } from "./ai-sdk-tools.mjs";
import * as proxy from "./gemproxy.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const BASE = process.env.GEMPROXY_URL;
const THREE_STEPS =
  'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},' +
  ' then call get_time with {"zone": "Europe/Oslo"}, then call get_weather with {"city": "Bonn"}';
const SIGNED = [{ city: "Oslo" }, { zone: "Europe/Oslo" }, { city: "Bonn" }];
const THINKING = { type: "enabled", budget_tokens: 1024 };

beforeEach(proxy.reset);

for (const [major, sdk] of Object.entries({ newest, older }))
describe(`@anthropic-ai/sdk, ${major}`, () => {
  const { APIError, AuthenticationError, InternalServerError } = sdk;
  const client = (more = {}) =>
    new sdk.default({ baseURL: BASE, apiKey: proxy.TOKEN, maxRetries: 0, ...more });
  const asked = (content, more = {}) => ({
    model: proxy.MODEL,
    max_tokens: 4000,
    messages: [{ role: "user", content }],
    ...more,
  });
  const tools = ["get_weather:city", "get_time:zone"].map((each) => {
    const [name, field] = each.split(":");
    return {
      name,
      description: `The function ${name}.`,
      input_schema: {
        type: "object",
        properties: { [field]: { type: "string" } },
        required: [field],
      },
    };
  });
  const WAYS = {
    whole: (body) => client().messages.create(body),
    streamed: (body) => client().messages.stream(body).finalMessage(),
  };

  for (const [way, ask] of Object.entries(WAYS)) {
    test(`${way}: an answer`, async () => {
      const message = await ask(asked("How are rivers made?", { system: "Be brief." }));
      assert.match(message.content[0].text, /^You said: "How are rivers made\?"/);
      assert.equal(message.stop_reason, "end_turn");
      assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens > 0);
    });

    for (const model of proxy.MODELS) {
      test(`${way}: three steps of tools with ${model}`, async () => {
        const body = asked(THREE_STEPS, { model, tools, thinking: THINKING });
        for (;;) {
          const message = await ask(body);
          body.messages.push({ role: "assistant", content: message.content });
          const calls = message.content.filter((block) => block.type === "tool_use");
          if (!calls.length) break;
          const content = calls
            .reverse()
            .map((call) => ({ type: "tool_result", tool_use_id: call.id, content: "fine" }));
          body.messages.push({ role: "user", content });
        }
        assert.equal(body.messages.length, 8);
        assert.deepEqual(await proxy.signedCalls(), SIGNED);
        await proxy.nothingRefused();
      });
    }
  }

  test("an image in a turn and in the result of a call, and structured output", async () => {
    const data = proxy.PICTURE;
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
    await client().messages.create(asked([image, { type: "text", text: "What is it?" }]));
    assert.deepEqual(await proxy.images(), [data]);
    const body = asked('call get_weather with {"city": "Oslo"}', { tools });
    const { content } = await client().messages.create(body);
    const { id: tool_use_id } = content.find(({ type }) => type === "tool_use");
    body.messages.push(
      { role: "assistant", content },
      { role: "user", content: [{ type: "tool_result", tool_use_id, content: [image] }] },
    );
    await client().messages.create(body);
    assert.deepEqual(await proxy.images(), [data]);
    await proxy.nothingRefused();
    const schema = z.toJSONSchema(z.object({ inches: z.int() }));
    const format = { type: "json_schema", schema };
    const shaped = await client().messages.create(asked("A wheel.", { output_config: { format } }));
    assert.ok(Number.isInteger(JSON.parse(shaped.content.at(-1).text).inches));
  });

  test("errors have the right class", async () => {
    await assert.rejects(client({ apiKey: "wrong" }).messages.create(asked("Hello")), (error) => {
      assert.ok(error instanceof AuthenticationError);
      assert.equal(error.error.error.type, "authentication_error");
      assert.ok(error.requestID);
      return true;
    });
    const busy = asked("[simulate:overloaded] Hello", { model: "gemini-3.5-flash-lite" });
    await assert.rejects(client().messages.create(busy), (error) => {
      assert.ok(error instanceof InternalServerError);
      assert.equal(error.status, 529);
      return true;
    });
  });

  for (const [name, model] of proxy.BREAKS) {
    test(`a stream that breaks (${name}) throws`, async () => {
      const prompt = `[simulate:words n=80] [simulate:${name} chunks=3] Go on.`;
      let seen = "";
      await assert.rejects(async () => {
        const stream = client().messages.stream(asked(prompt, { model }));
        stream.on("text", (text) => (seen += text));
        await stream.finalMessage();
      }, APIError);
      assert.ok(seen);
    });
  }

  test("tokens are counted", async () => {
    const { model, messages } = asked("How are rivers made? ".repeat(100));
    const { input_tokens: counted } = await client().messages.countTokens({ model, messages });
    assert.ok(counted > 400 && counted < 1000, counted);
  });
});

test("the SDK's own runner of tools sends the whole conversation", async () => {
  const get_weather = betaTool({
    name: "get_weather",
    description: "The weather of a city.",
    inputSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    run: ({ city }) => `fine in ${city}`,
  });
  const client = new newest.default({ baseURL: BASE, apiKey: proxy.TOKEN });
  const cities = ["Oslo", "Rome", "Bonn"];
  const message = await client.beta.messages.toolRunner({
    model: proxy.MODEL,
    max_tokens: 4000,
    thinking: THINKING,
    messages: [
      { role: "user", content: cities.map((city) => `call get_weather with {"city": "${city}"}`).join(", then ") },
    ],
    tools: [get_weather],
  });
  assert.match(message.content.at(-1).text, /fine in Bonn/);
  assert.deepEqual(
    await proxy.signedCalls(),
    cities.map((city) => ({ city })),
  );
});

describe("AI SDK", () => {
  const provider = (more = {}) =>
    createAnthropic({ baseURL: `${BASE}/v1`, apiKey: proxy.TOKEN, ...more });
  const ran = [];
  const made = (name, parameters) =>
    tool({
      description: `The function ${name}.`,
      inputSchema: z.object(parameters),
      execute: (given) => {
        ran.push(given);
        return "fine";
      },
    });
  const tools = {
    get_weather: made("get_weather", { city: z.string() }),
    get_time: made("get_time", { zone: z.string() }),
  };
  const WAYS = {
    whole: (asked) => generateText(asked),
    streamed: async (asked) => {
      const errors = [];
      const result = streamText({ ...asked, onError: ({ error }) => errors.push(error) });
      for await (const _ of result.fullStream);
      if (errors.length) throw errors[0];
      return { text: await result.text, steps: await result.steps, output: await result.output };
    },
  };

  for (const [way, ask] of Object.entries(WAYS)) {
    for (const thinking of [undefined, { type: "enabled", budgetTokens: 1024 }]) {
      test(`${way}, ${thinking ? "thinking" : "silent"}: three steps of tools`, async () => {
        ran.length = 0;
        const { text, steps } = await ask({
          model: provider()(proxy.MODEL),
          prompt: THREE_STEPS,
          tools,
          stopWhen: stepCountIs(9),
          providerOptions: { anthropic: { ...(thinking && { thinking }) } },
        });
        assert.equal(steps.length, 4);
        assert.equal(ran.length, 4);
        assert.match(text, /fine/);
        assert.deepEqual(await proxy.signedCalls(), SIGNED);
        await proxy.nothingRefused();
      });
    }

    test(`${way}: structured output`, async () => {
      const { output } = await ask({
        model: provider()(proxy.MODEL),
        prompt: "Describe a wheel.",
        output: Output.object({ schema: z.object({ inches: z.number() }) }),
      });
      assert.equal(typeof output.inches, "number");
    });
  }

  test("an image in a turn and in the result of a call", async () => {
    const image = { type: "file", mediaType: "image/png", data: proxy.PICTURE };
    const content = [{ type: "text", text: "What is it?" }, image];
    assert.ok((await generateText({ model: provider()(proxy.MODEL), messages: [{ role: "user", content }] })).text);
    assert.deepEqual(await proxy.images(), [proxy.PICTURE]);
    const prompt = "call look with {}";
    await generateText({ model: provider()(proxy.MODEL), prompt, tools: { look: looking() }, stopWhen: stepCountIs(3) });
    await proxy.nothingRefused();
    assert.deepEqual(await proxy.images(), [proxy.PICTURE]);
  });

  for (const [name, model] of proxy.BREAKS)
    test(`a stream that breaks (${name}) throws`, async () => {
      const prompt = `[simulate:words n=80] [simulate:${name} chunks=3] Go on.`;
      const asked = { model: provider()(model), prompt, maxRetries: 0 };
      await assert.rejects(WAYS.streamed(asked));
    });

  test("errors have the right class", async () => {
    const stranger = provider({ apiKey: "wrong" })(proxy.MODEL);
    await assert.rejects(
      generateText({ model: stranger, prompt: "Hello", maxRetries: 0 }),
      (error) => APICallError.isInstance(error) && error.statusCode === 401,
    );
  });
});
