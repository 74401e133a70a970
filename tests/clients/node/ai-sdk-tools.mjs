// Tools for the AI SDK, whatever its provider.
import { tool } from "ai";
import { z } from "zod";

import { PICTURE } from "./gemproxy.mjs";

/** A tool whose result is an image. */
export const looking = () =>
  tool({
    inputSchema: z.object({}),
    execute: () => "see",
    toModelOutput: () => ({
      type: "content",
      value: [{ type: "image-data", data: PICTURE, mediaType: "image/png" }],
    }),
  });

/** Two tools, and the calls of them in the order in which they ran. */
export function tools() {
  const ran = [];
  const made = (name, parameters, answer) =>
    tool({
      description: `The function ${name}.`,
      inputSchema: z.object(parameters),
      execute: (given) => {
        ran.push([name, given]);
        return answer;
      },
    });
  return {
    ran,
    tools: {
      get_weather: made("get_weather", { city: z.string() }, { celsius: 4 }),
      get_time: made("get_time", { zone: z.string() }, "12:30"),
    },
  };
}
