// Where the daemon and the simulator of this run are, and what came upstream.
import assert from "node:assert/strict";

export const URL_ = `${process.env.GEMPROXY_URL}/v1`;
export const TOKEN = process.env.GEMPROXY_TOKEN;
export const MODEL = "gemini-3.8-flash";
// Gemini 3 calls without an id of its own, unlike later ones.
export const MODELS = [MODEL, "gemini-3-flash-preview", "gemini-3.1-pro-preview"];

/** How the simulator breaks a stream off, each with a model of its own, whose breaker may open. */
export const BREAKS = Object.entries({
  truncated: "gemini-3.6-flash",
  cut: "gemini-3.7-flash",
  "reset-mid-stream": "gemini-3.1-pro-preview",
  "error-mid-stream": "gemini-3.5-flash",
});

/** One control call; see docs/simulator.md. */
async function control(method, path, body) {
  const answer = await fetch(`${process.env.SIMULATOR_URL}/_simulator/${path}`, {
    method,
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

export const reset = () => control("POST", "reset");
const KEYS = ["alpha", "beta"];
/** Let every key of the daemon behave so; ``more`` are fields of the control call. */
export const behaveAll = (behaviour, more = {}) =>
  Promise.all(KEYS.map((key) => control("PUT", `keys/${key}`, { behaviour, ...more })));
/** Let the daemon forget what it has against its keys. */
export const forgive = () =>
  Promise.all(
    KEYS.map(async (key) => {
      const answer = await fetch(`${process.env.GEMPROXY_URL}/admin/keys/${key}/reset`, {
        method: "POST",
        headers: { authorization: `Bearer ${process.env.GEMPROXY_ADMIN_TOKEN}` },
      });
      assert.ok(answer.ok, `${answer.status} ${await answer.text()}`);
    }),
  );
/** What came upstream since the last reset, oldest first. */
export const requests = async () => (await control("GET", "requests?limit=200")).requests;

// What the simulator signs begins with the base64 of "simulated"; it refuses a signature of another
// call, and a first call of a step without any. Google's documented dummies begin otherwise.
const GENUINE = "c2ltdWxhdGVk";

/** The arguments of every signed call in the last upstream request; signatures must be genuine. */
export async function signedCalls() {
  const parts = (await requests()).at(-1).body.contents.flatMap((content) => content.parts);
  const signed = parts.filter((part) => part.functionCall && part.thoughtSignature);
  for (const part of signed) {
    assert.ok(part.thoughtSignature.startsWith(GENUINE), JSON.stringify(part));
  }
  return signed.map((part) => part.functionCall.args);
}

/** The base64 of an image. */
export const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** The base64 of each image in the last upstream request, also in results of calls. */
export async function images() {
  const parts = (await requests()).at(-1).body.contents.flatMap((content) => content.parts);
  return parts
    .flatMap((part) => [part, ...(part.functionResponse?.parts ?? [])])
    .flatMap((part) => (part.inlineData ? [part.inlineData.data] : []));
}

/** Every upstream request was answered with 200. */
export async function nothingRefused() {
  for (const request of await requests()) {
    assert.equal(request.status, 200, JSON.stringify(request));
  }
}
