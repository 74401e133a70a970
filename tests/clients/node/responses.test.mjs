// The Responses API: OpenAI's own SDK in two majors, and Vercel's AI SDK, whose default it is.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import NewestOpenAI from "openai-newest";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { looking } from "./ai-sdk-tools.mjs";
import * as proxy from "./gemproxy.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const settings = { baseURL: proxy.URL_, apiKey: proxy.TOKEN };
const STEPS =
  'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},' +
  ' then call get_time with {"zone": "Europe/Oslo"}';
const CALLED = [
  [
    ["get_weather", { city: "Oslo" }],
    ["get_weather", { city: "Rome" }],
  ],
  [["get_time", { zone: "Europe/Oslo" }]],
];

beforeEach(proxy.reset);

/** The calls of each step that came back with the model's own signature. */
async function callsThatCameBack() {
  await proxy.nothingRefused();
  const generations = (await proxy.requests()).filter(({ call }) =>
    call?.endsWith("enerateContent"),
  );
  return generations
    .at(-1)
    .body.contents.map(({ parts }) => parts.filter((part) => part.functionCall))
    .filter((parts) => parts.length)
    .map((parts) => {
      const signature = Buffer.from(parts[0].thoughtSignature, "base64url").toString("latin1");
      assert.ok(signature.startsWith("simulated"), signature);
      return parts.map((part) => [part.functionCall.name, part.functionCall.args]);
    });
}

for (const [name, Client] of Object.entries({ openai: OpenAI, "openai-newest": NewestOpenAI })) {
  describe(name, () => {
    const client = new Client({ ...settings, maxRetries: 0 });
    const tools = [
      ["get_weather", "city"],
      ["get_time", "zone"],
    ].map(([name, argument]) => ({
      type: "function",
      name,
      strict: true,
      parameters: { type: "object", properties: { [argument]: { type: "string" } } },
    }));

    for (const stream of [false, true])
      test(`three steps with parallel calls, ${stream ? "streamed" : "unary"}`, async () => {
        let input = [{ role: "user", content: STEPS }];
        let previous_response_id, response;
        for (let step = 0; step < 3; step++) {
          const asked = { model: proxy.MODEL, input, tools, previous_response_id };
          response = stream
            ? await client.responses.stream(asked).finalResponse()
            : await client.responses.create(asked);
          previous_response_id = response.id;
          input = response.output
            .filter((item) => item.type === "function_call")
            .map(({ call_id, name }) => ({
              type: "function_call_output",
              call_id,
              output: `${name} ran`,
            }));
        }
        assert.match(response.output_text, /^get_time returned/);
        assert.deepEqual(await callsThatCameBack(), CALLED);
      });

    test("structured output", async () => {
      const format = zodTextFormat(z.object({ inches: z.number() }), "wheel");
      const text = { format };
      const made = await client.responses.parse({ model: proxy.MODEL, input: "A wheel.", text });
      assert.equal(typeof made.output_parsed.inches, "number");
    });

    test("an image in a turn and in the result of a call", async () => {
      const image_url = `data:image/png;base64,${proxy.PICTURE}`;
      const image = { type: "input_image", image_url, detail: "high" };
      const input = [
        { role: "user", content: [image] },
        { type: "function_call", call_id: "c", name: "look", arguments: "{}" },
        { type: "function_call_output", call_id: "c", output: [image] },
      ];
      await client.responses.create({ model: proxy.MODEL, input });
      assert.deepEqual(await proxy.images(), [proxy.PICTURE, proxy.PICTURE]);
    });

    test("errors of the right class", async () => {
      const asked = { model: proxy.MODEL, input: "Hi" };
      const stranger = new Client({ ...settings, apiKey: "wrong", maxRetries: 0 });
      await assert.rejects(stranger.responses.create(asked), Client.AuthenticationError);
      await assert.rejects(client.responses.retrieve("resp_x"), Client.NotFoundError);
    });

    test("a broken stream", async () => {
      for (const [behaviour, model] of proxy.BREAKS) {
        const input = `[simulate:words n=80] [simulate:${behaviour} chunks=3] Go on.`;
        const events = [];
        for await (const event of await client.responses.create({ model, input, stream: true }))
          events.push(event);
        assert.equal(events.at(-1).type, "response.failed");
        assert.equal(events.at(-1).response.error.code, "server_error");
      }
    });
  });
}

describe("the AI SDK by default", () => {
  /** Two tools for a loop. */
  const tools = {
    get_weather: tool({
      inputSchema: z.object({ city: z.string() }),
      execute: async () => ({ celsius: 4 }),
    }),
    get_time: tool({ inputSchema: z.object({ zone: z.string() }), execute: async () => "12:30" }),
  };
  const model = createOpenAI(settings)(proxy.MODEL);
  // It knows reasoning models by their names; others have to be declared.
  const thinking = { openai: { reasoningSummary: "auto", reasoningEffort: "high" } };
  const forced = { openai: { ...thinking.openai, forceReasoning: true } };
  const OPTIONS = {
    "stored items": forced,
    "the items themselves": { openai: { ...forced.openai, store: false } },
    "no thoughts": {},
  };

  for (const [name, providerOptions] of Object.entries(OPTIONS)) {
    test(`a loop of three steps with ${name}`, async () => {
      const asked = { model, tools, prompt: STEPS, stopWhen: stepCountIs(5), providerOptions };
      const { steps, text } = await generateText(asked);
      assert.equal(steps.length, 3);
      assert.match(text, /^get_time returned/);
      assert.deepEqual(await callsThatCameBack(), CALLED);
    });

    test(`a streamed loop of three steps with ${name}`, async () => {
      const asked = { model, tools, prompt: STEPS, stopWhen: stepCountIs(5), providerOptions };
      const result = streamText(asked);
      let text = "";
      for await (const delta of result.textStream) text += delta;
      assert.equal((await result.steps).length, 3);
      assert.match(text, /get_time returned/);
      assert.deepEqual(await callsThatCameBack(), CALLED);
    });
  }

  test("structured output", async () => {
    const schema = z.object({ inches: z.number() });
    const { output } = await generateText({
      model,
      prompt: "Describe a wheel.",
      output: Output.object({ schema }),
    });
    assert.equal(typeof output.inches, "number");
  });

  test("an image in a turn and in the result of a call", async () => {
    const image = { type: "file", mediaType: "image/png", data: proxy.PICTURE };
    const content = [{ type: "text", text: "What is it?" }, image];
    assert.ok((await generateText({ model: model, messages: [{ role: "user", content }] })).text);
    assert.deepEqual(await proxy.images(), [proxy.PICTURE]);
    const prompt = "call look with {}";
    await generateText({ model: model, prompt, tools: { look: looking() }, stopWhen: stepCountIs(3) });
    await proxy.nothingRefused();
    assert.deepEqual(await proxy.images(), [proxy.PICTURE]);
  });

  test("a broken stream", async () => {
    for (const [behaviour, name] of proxy.BREAKS) {
      const errors = [];
      const result = streamText({
        model: createOpenAI(settings)(name),
        prompt: `[simulate:words n=80] [simulate:${behaviour} chunks=3] Go on.`,
        maxRetries: 0,
        onError: ({ error }) => errors.push(error),
      });
      await result.consumeStream();
      assert.ok(errors.length || (await result.finishReason) === "error", behaviour);
    }
  });
});
