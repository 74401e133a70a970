// Google's SDK for JavaScript in its newest major, which speaks to /v1, and in the one before, which
// speaks to /v1beta, and Vercel's AI SDK by its google provider; nothing changed but the base URL.
import assert from "node:assert/strict";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { createGoogleGenerativeAI } from "@ai-sdk/google";
import * as newest from "@google/genai";
import * as older from "@google/genai-2";
import { APICallError, Output, embedMany, generateText, stepCountIs, streamText } from "ai";
import { z } from "zod";

import { looking, tools } from "./ai-sdk-tools.mjs";
import * as proxy from "./gemproxy.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const ROOT = process.env.GEMPROXY_URL;
const google = createGoogleGenerativeAI({ apiKey: proxy.TOKEN, baseURL: `${ROOT}/v1beta` });
const { PICTURE } = proxy;
const BOTH =
  'call get_weather with {"city": "Oslo"} and call get_time with {"zone": "Europe/Oslo"}';

beforeEach(proxy.reset);
afterEach(proxy.forgive);

for (const [major, { ApiError, GoogleGenAI }] of Object.entries({ newest, older }))
describe(`@google/genai, ${major}`, () => {
  const client = new GoogleGenAI({ apiKey: proxy.TOKEN, httpOptions: { baseUrl: ROOT } });
  const model = proxy.MODEL;
  const declared = (name, field) => ({
    name,
    parametersJsonSchema: { type: "object", properties: { [field]: { type: "string" } } },
  });
  const tools = [
    { functionDeclarations: [declared("get_weather", "city"), declared("get_time", "zone")] },
  ];

  test("text, whole and streamed", async () => {
    const contents = "How are rivers made? [simulate:words n=60]";
    const whole = await client.models.generateContent({ model, contents });
    assert.match(whole.text, /^You said: "How are rivers made\?/);
    let text = "";
    let last;
    for await (const chunk of await client.models.generateContentStream({ model, contents })) {
      text += chunk.text ?? "";
      last = chunk;
    }
    assert.equal(text, whole.text);
    assert.equal(last.usageMetadata.totalTokenCount, whole.usageMetadata.totalTokenCount);
    const version = major === "newest" ? "v1" : "v1beta";
    for (const { path } of await proxy.requests()) assert.ok(path.startsWith(`/${version}/`), path);
  });

  for (const name of proxy.MODELS) {
    test(`three steps with parallel calls and genuine signatures: ${name}`, async () => {
      const contents = [];
      for (let step = 0; step < 3; step += 1) {
        contents.push({ role: "user", parts: [{ text: `Step ${step}: ${BOTH}` }] });
        const asked = { model: name, contents, config: { tools } };
        const calls = [];
        const said = { role: "model", parts: [] };
        const answers =
          step === 1
            ? await client.models.generateContentStream(asked)
            : [await client.models.generateContent(asked)];
        for await (const each of answers) {
          calls.push(...(each.functionCalls ?? []));
          said.parts.push(...(each.candidates[0].content?.parts ?? []));
        }
        assert.equal(calls.length, 2);
        contents.push(said);
        const parts = calls.map(({ id, name: called }) => ({
          functionResponse: { id, name: called, response: { result: called } },
        }));
        contents.push({ role: "user", parts });
        const answer = await client.models.generateContent(asked);
        assert.ok(answer.text);
        contents.push(answer.candidates[0].content);
      }
      await proxy.nothingRefused();
      assert.ok((await proxy.signedCalls()).length >= 3);
    });
  }

  test("an image in the result of a call", async () => {
    const contents = [{ role: "user", parts: [{ text: 'call get_weather with {"city": "Oslo"}' }] }];
    const calling = await client.models.generateContent({ model, contents, config: { tools } });
    contents.push(calling.candidates[0].content);
    const [{ id, name }] = calling.functionCalls;
    const parts = [{ inlineData: { data: PICTURE, mimeType: "image/png" } }];
    const functionResponse = { id, name, response: { result: "see" }, parts };
    contents.push({ role: "user", parts: [{ functionResponse }] });
    assert.ok((await client.models.generateContent({ model, contents, config: { tools } })).text);
    await proxy.nothingRefused();
    const sent = (await proxy.requests()).at(-1).body.contents.at(-1).parts[0].functionResponse;
    assert.equal(sent.parts[0].inlineData.data, PICTURE);
  });

  test("structured output and an image", async () => {
    const responseJsonSchema = z.toJSONSchema(z.object({ inches: z.int() }));
    const shaped = await client.models.generateContent({
      model,
      contents: [{ inlineData: { data: PICTURE, mimeType: "image/png" } }, "A wheel."],
      config: { responseMimeType: "application/json", responseJsonSchema },
    });
    assert.ok(Number.isInteger(JSON.parse(shaped.text).inches));
  });

  test("counting, embedding, models", async () => {
    const counted = await client.models.countTokens({ model, contents: "Hello" });
    assert.ok(counted.totalTokens > 0);
    const { embeddings } = await client.models.embedContent({
      model: "gemini-embedding-001",
      contents: ["one", "two"],
      config: { outputDimensionality: 64 },
    });
    assert.deepEqual(
      embeddings.map((each) => each.values.length),
      [64, 64],
    );
    const names = [];
    for await (const each of await client.models.list()) names.push(each.name);
    assert.ok(names.includes(`models/${model}`));
  });

  test("a file is uploaded, used and deleted", async () => {
    const blob = new Blob(["a line of notes\n".repeat(20_000)], { type: "text/plain" });
    const file = await client.files.upload({ file: blob, config: { displayName: "notes" } });
    assert.equal(file.sizeBytes, "320000");
    const folder = await mkdtemp(join(tmpdir(), "gemproxy-"));
    const downloadPath = join(folder, "notes.txt");
    await client.files.download({ file, downloadPath });
    assert.equal(await readFile(downloadPath, "utf8"), "a line of notes\n".repeat(20_000));
    const part = { fileData: { fileUri: file.uri, mimeType: file.mimeType } };
    for (let place = 0; place < 3; place += 1) {
      const contents = [{ role: "user", parts: [{ text: "Sum it up." }, part] }];
      assert.ok((await client.models.generateContent({ model, contents })).text);
    }
    await client.files.delete({ name: file.name });
    await assert.rejects(client.files.get({ name: file.name }), ApiError);
  });

  test("errors", async () => {
    const contents = "Hello";
    const unknown = client.models.generateContent({ model: "nothing-of-the-kind", contents });
    await assert.rejects(unknown, (error) => error instanceof ApiError && error.status === 404);
    const stranger = new GoogleGenAI({ apiKey: "wrong", httpOptions: { baseUrl: ROOT } });
    const refused = stranger.models.generateContent({ model, contents });
    await assert.rejects(refused, (error) => error instanceof ApiError && error.status === 401);
  });

  for (const [behaviour, broken] of proxy.BREAKS) {
    test(`a broken stream raises: ${behaviour}`, async () => {
      const contents = `[simulate:words n=80] [simulate:${behaviour} chunks=3] Go on.`;
      await assert.rejects(async () => {
        const stream = await client.models.generateContentStream({ model: broken, contents });
        for await (const chunk of stream) assert.ok(chunk);
      });
    });
  }
});

describe("@ai-sdk/google", () => {
  const model = google(proxy.MODEL);

  test("text, whole and streamed", async () => {
    const prompt = "How are rivers made? [simulate:words n=60]";
    const whole = await generateText({ model, prompt });
    const streamed = streamText({ model, prompt });
    assert.equal(await streamed.text, whole.text);
    assert.ok(whole.usage.totalTokens > 0);
  });

  for (const name of proxy.MODELS) {
    test(`a tool loop with parallel calls and genuine signatures: ${name}`, async () => {
      const { ran, tools: both } = tools();
      const messages = [];
      for (let step = 0; step < 3; step += 1) {
        messages.push({ role: "user", content: `Step ${step}: ${BOTH}` });
        const asked = { model: google(name), messages, tools: both, stopWhen: stepCountIs(4) };
        const answer = step === 1 ? streamText(asked) : await generateText(asked);
        assert.ok(await answer.text);
        messages.push(...(await answer.response).messages);
      }
      assert.equal(ran.length, 6);
      await proxy.nothingRefused();
      assert.ok((await proxy.signedCalls()).length >= 3);
    });
  }

  test("three steps in one loop, whole and streamed", async () => {
    const prompt = `${BOTH}, then call get_weather with {"city": "Rome"}`;
    for (const ask of [generateText, streamText]) {
      await proxy.reset();
      const { ran, tools: both } = tools();
      const answer = await ask({ model, prompt, tools: both, stopWhen: stepCountIs(5) });
      assert.ok(await answer.text);
      assert.equal((await answer.steps).length, 3);
      assert.deepEqual(ran.map(([, given]) => given), [
        { city: "Oslo" },
        { zone: "Europe/Oslo" },
        { city: "Rome" },
      ]);
      await proxy.nothingRefused();
      assert.deepEqual(await proxy.signedCalls(), [{ city: "Oslo" }, { city: "Rome" }]);
    }
  });

  test("an image in the result of a call", async () => {
    const prompt = "call look with {}";
    await generateText({ model, prompt, tools: { look: looking() }, stopWhen: stepCountIs(3) });
    await proxy.nothingRefused();
    assert.deepEqual(await proxy.images(), [PICTURE]);
  });

  test("structured output, an image, embeddings", async () => {
    const image = { type: "file", mediaType: "image/png", data: PICTURE };
    const { output } = await generateText({
      model,
      output: Output.object({ schema: z.object({ inches: z.int() }) }),
      messages: [{ role: "user", content: [{ type: "text", text: "A wheel." }, image] }],
    });
    assert.ok(Number.isInteger(output.inches));
    const embedding = google.textEmbeddingModel("gemini-embedding-001");
    const { embeddings } = await embedMany({ model: embedding, values: ["one", "two"] });
    assert.equal(embeddings.length, 2);
  });

  test("errors", async () => {
    const asked = { model: google("nothing-of-the-kind"), prompt: "Hello", maxRetries: 0 };
    await assert.rejects(generateText(asked), (error) => {
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, 404);
      return true;
    });
  });

  for (const [behaviour, broken] of proxy.BREAKS)
  test(`a broken stream raises: ${behaviour}`, async () => {
    const prompt = `[simulate:words n=80] [simulate:${behaviour} chunks=3] Go on.`;
    const errors = [];
    const onError = ({ error }) => errors.push(error);
    const streamed = streamText({ model: google(broken), prompt, maxRetries: 0, onError });
    for await (const part of streamed.fullStream) assert.ok(part);
    assert.ok(errors.length > 0);
  });
});
