// Vercel's AI SDK, by its provider for compatible APIs and by OpenAI's own in chat mode.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText } from "ai";
import { z } from "zod";

import { tools } from "./ai-sdk-tools.mjs";
import * as proxy from "./gemproxy.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const settings = { baseURL: proxy.URL_, apiKey: proxy.TOKEN };
const PROVIDERS = {
  "openai-compatible": (more = {}) =>
    createOpenAICompatible({
      name: "gemproxy",
      includeUsage: true,
      supportsStructuredOutputs: true,
      ...settings,
      ...more,
    }),
  openai: (more = {}) => createOpenAI({ ...settings, ...more }).chat,
};

beforeEach(proxy.reset);

test("embeddings of more texts than Google takes in a call", async () => {
  const model = PROVIDERS["openai-compatible"]().textEmbeddingModel("gemini-embedding-001");
  const values = Array.from({ length: 150 }, (_, place) => `text ${place}`);
  const { embeddings, usage } = await embedMany({ model, values });
  assert.equal(embeddings.length, 150);
  assert.ok(Math.abs(Math.hypot(...embeddings[149]) - 1) < 1e-6);
  assert.ok(usage.tokens > 0);
});

const WEATHER = 'Please call get_weather with {"city": "Oslo"}';
const BOTH = `${WEATHER} and call get_time with {"zone": "Europe/Oslo"}`;

/** Both ways to ask, with one shape of answer. */
const WAYS = {
  whole: async (asked) => {
    const { text, steps, usage, finishReason, response, output } = await generateText(asked);
    return { text, steps, usage, finishReason, messages: response.messages, output };
  },
  streamed: async (asked) => {
    const errors = [];
    const result = streamText({ ...asked, onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const part of result.fullStream) if (part.type === "text-delta") text += part.text;
    if (errors.length) throw errors[0];
    return {
      text: await result.text,
      seen: text,
      steps: await result.steps,
      usage: await result.totalUsage,
      finishReason: await result.finishReason,
      messages: (await result.response).messages,
      output: asked.output && (await result.output),
    };
  },
};

for (const [provider, create] of Object.entries(PROVIDERS)) {
  const model = (name = proxy.MODEL, more = {}) => create(more)(name);
  const options = { maxRetries: 0 };

  describe(`@ai-sdk/${provider}`, () => {
    for (const [way, ask] of Object.entries(WAYS)) {
      test(`${way}: text, with its usage`, async () => {
        const prompt = "How are rivers made?";
        const answer = await ask({ ...options, model: model(), prompt });
        assert.match(answer.text, /^You said: "How are rivers made\?"/);
        assert.equal(answer.finishReason, "stop");
        if (way === "streamed") assert.equal(answer.seen, answer.text);
        assert.ok(answer.usage.inputTokens > 0);
        assert.ok(answer.usage.outputTokens > 0);
      });

      test(`${way}: structured output`, async () => {
        const schema = z.object({
          name: z.string(),
          guests: z.array(z.object({ name: z.string(), age: z.number() })),
          kind: z.enum(["party", "talk"]),
        });
        const { output } = await ask({
          ...options,
          model: model(),
          output: Output.object({ schema }),
          prompt: "Describe an event.",
        });
        assert.deepEqual(schema.parse(output), output);
        const [request] = await proxy.requests();
        assert.ok(request.body.generationConfig.responseJsonSchema);
      });

      for (const name of proxy.MODELS) {
        test(`${way}: ${name}: tools over three questions`, async () => {
          const { ran, tools: offered } = tools();
          const messages = [];
          const again = 'Now call get_time with {"zone": "Asia/Tokyo"}';
          for (const content of [BOTH, again, "Thanks!"]) {
            messages.push({ role: "user", content });
            const answer = await ask({
              ...options,
              model: model(name),
              tools: offered,
              stopWhen: stepCountIs(5),
              messages,
            });
            assert.ok(answer.text.length > 0);
            messages.push(...answer.messages);
          }
          assert.deepEqual(ran, [
            ["get_weather", { city: "Oslo" }],
            ["get_time", { zone: "Europe/Oslo" }],
            ["get_time", { zone: "Asia/Tokyo" }],
          ]);
          await proxy.nothingRefused();
          // Of calls in parallel only the first is signed; the next question's call is as well.
          assert.deepEqual(await proxy.signedCalls(), [{ city: "Oslo" }, { zone: "Asia/Tokyo" }]);
        });

        test(`${way}: ${name}: several steps of one turn`, async () => {
          const { ran, tools: offered } = tools();
          const answer = await ask({
            ...options,
            model: model(name),
            tools: offered,
            toolChoice: "required",
            prepareStep: ({ stepNumber }) => (stepNumber < 3 ? {} : { toolChoice: "auto" }),
            stopWhen: stepCountIs(6),
            prompt: WEATHER,
          });
          assert.equal(ran.length, 3);
          assert.equal(answer.steps.length, 4);
          assert.match(answer.text, /get_weather returned/);
          await proxy.nothingRefused();
          assert.equal((await proxy.signedCalls()).length, 3);
        });
      }
    }

    for (const [how, name] of proxy.BREAKS) {
      test(`a stream that breaks (${how}) tells it`, async () => {
        const prompt = `Tell me a story. [simulate:${how} chunks=2]`;
        const result = streamText({ ...options, model: model(name), prompt, onError: () => {} });
        const parts = [];
        for await (const part of result.fullStream) parts.push(part);
        assert.ok(parts.some((part) => part.type === "text-delta"));
        const { error } = parts.find((part) => part.type === "error");
        const code = how === "error-mid-stream" ? "upstream_error" : "stream_incomplete";
        assert.equal(error.code, code);
        // The SDK never throws out of a stream: this is how a caller who reads only text learns it.
        assert.equal(await result.finishReason, "error");
      });
    }

    test("a wrong token", async () => {
      const asked = { model: model(proxy.MODEL, { apiKey: "a-wrong-token" }), prompt: "Hello" };
      await assert.rejects(generateText(asked), (error) => {
        assert.ok(APICallError.isInstance(error));
        assert.equal(error.statusCode, 401);
        assert.equal(error.isRetryable, false);
        return true;
      });
      assert.deepEqual(await proxy.requests(), []);
    });

    test("an unknown model", async () => {
      const asked = { ...options, model: model("llama3:latest"), prompt: "Hello" };
      await assert.rejects(generateText(asked), (error) => error.statusCode === 404);
    });
  });
}

test("openai-compatible shows the thoughts", async () => {
  const model = PROVIDERS["openai-compatible"]()(proxy.MODEL);
  const providerOptions = { gemproxy: { reasoningEffort: "low" } };
  const { reasoningText } = await generateText({ model, prompt: "Why?", providerOptions });
  assert.ok(reasoningText.length > 0);
});
