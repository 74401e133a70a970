// LangChain's ChatOpenAI and OpenAIEmbeddings, which are openai-node underneath.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";

import * as proxy from "./gemproxy.mjs";

const chat = (more = {}) =>
  new ChatOpenAI({
    model: proxy.MODEL,
    apiKey: proxy.TOKEN,
    configuration: { baseURL: proxy.URL_ },
    useResponsesApi: false,
    maxRetries: 0,
    ...more,
  });

beforeEach(proxy.reset);

const weather = tool(async ({ city }) => `4 degrees in ${city}`, {
  name: "get_weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string() }),
});

test("text, whole and streamed", async () => {
  const whole = await chat().invoke("How are rivers made?");
  assert.match(whole.content, /^You said: "How are rivers made\?"/);
  let text = "";
  let usage;
  for await (const chunk of await chat({ streamUsage: true }).stream("How are rivers made?")) {
    text += chunk.content;
    usage = chunk.usage_metadata ?? usage;
  }
  assert.equal(text, whole.content);
  assert.equal(usage.total_tokens, whole.usage_metadata.total_tokens);
});

test("embeddings of more texts than Google takes in a call", async () => {
  const embeddings = new OpenAIEmbeddings({
    model: "gemini-embedding-2",
    dimensions: 64,
    apiKey: proxy.TOKEN,
    configuration: { baseURL: proxy.URL_ },
    maxRetries: 0,
  });
  const texts = Array.from({ length: 520 }, (_, place) => `text ${place}`);
  const vectors = await embeddings.embedDocuments(texts);
  assert.equal(vectors.length, 520);
  assert.deepEqual(vectors[519], await embeddings.embedQuery("text 519"));
});

for (const method of ["jsonSchema", "functionCalling"]) {
  test(`structured output by ${method}`, async () => {
    const schema = z.object({ name: z.string(), guests: z.array(z.string()) });
    const asked = chat().withStructuredOutput(schema, { method, name: "event" });
    const event = await asked.invoke("Describe an event.");
    assert.deepEqual(schema.parse(event), event);
  });
}

describe("a tool loop over three questions", () => {
  const ask = {
    whole: (model, messages) => model.invoke(messages),
    streamed: async (model, messages) => {
      let message;
      for await (const chunk of await model.stream(messages)) {
        message = message ? message.concat(chunk) : chunk;
      }
      return message;
    },
  };
  for (const [way, answerOf] of Object.entries(ask)) {
    for (const name of proxy.MODELS) {
      test(`${way}: ${name}`, async () => {
        const model = chat({ model: name }).bindTools([weather]);
        const messages = [];
        const ran = [];
        for (const city of ["Oslo", "Rome", "Lima"]) {
          messages.push(new HumanMessage(`Please call get_weather with {"city": "${city}"}`));
          for (;;) {
            const message = await answerOf(model, messages);
            messages.push(message);
            if (!message.tool_calls?.length) break;
            for (const call of message.tool_calls) {
              ran.push(call.args.city);
              const result = await weather.invoke(call);
              assert.ok(result instanceof ToolMessage);
              messages.push(result);
            }
          }
        }
        assert.deepEqual(ran, ["Oslo", "Rome", "Lima"]);
        await proxy.nothingRefused();
        assert.equal((await proxy.signedCalls()).length, 3);
      });
    }
  }
});

for (const [how, model] of proxy.BREAKS) {
  test(`a stream that breaks (${how}) throws`, async () => {
    let text = "";
    await assert.rejects(async () => {
      const stream = await chat({ model }).stream(`Tell me a story. [simulate:${how} chunks=2]`);
      for await (const chunk of stream) text += chunk.content;
    });
    assert.ok(text.length > 0);
  });
}

test("a wrong token", async () => {
  await assert.rejects(chat({ apiKey: "a-wrong-token" }).invoke("Hello"), { status: 401 });
  assert.deepEqual(await proxy.requests(), []);
});
