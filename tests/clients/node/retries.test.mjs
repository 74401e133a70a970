// What clients do with our refusals, with their own settings for retries.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";
import OpenAI from "openai";

import * as proxy from "./gemproxy.mjs";

const asked = { model: proxy.MODEL, messages: [{ role: "user", content: "Hello" }] };
let calls = 0;
const counted = (...given) => {
  calls += 1;
  return fetch(...given);
};
const client = new OpenAI({ baseURL: proxy.URL_, apiKey: proxy.TOKEN, fetch: counted });

beforeEach(async () => {
  calls = 0;
  await proxy.reset();
});
afterEach(async () => {
  await proxy.reset();
  await proxy.forgive();
});

for (const [behaviour, status] of [
  ["expired", 503],
  ["spend-limited", 429],
  ["rate-limited-day", 429],
  ["quota-zero", 429],
]) {
  test(`openai-node does not ask again in vain: ${behaviour}`, async () => {
    await proxy.behaveAll(behaviour);
    await assert.rejects(client.chat.completions.create(asked), (error) => {
      assert.equal(error.status, status);
      assert.ok(Number(error.headers.get("retry-after")) > 60);
      assert.equal(error.headers.get("x-should-retry"), "false");
      return true;
    });
    assert.equal(calls, 1);
  });
}

test("openai-node asks again where that helps", async () => {
  await proxy.behaveAll("overloaded", { times: 2 });
  const completion = await client.chat.completions.create(asked);
  assert.equal(completion.choices[0].finish_reason, "stop");
  assert.equal(calls, 2);
});

test("the AI SDK asks again where that helps", async () => {
  await proxy.behaveAll("overloaded", { times: 2 });
  const provider = createOpenAICompatible({
    name: "gemproxy",
    baseURL: proxy.URL_,
    apiKey: proxy.TOKEN,
    fetch: counted,
  });
  const { text } = await generateText({ model: provider(proxy.MODEL), prompt: "Hello" });
  assert.ok(text.length > 0);
  assert.equal(calls, 2);
});
