import { defineConfig } from "vitest/config"

const source = (file: string) => new URL(`src/${file}`, import.meta.url).pathname

export default defineConfig({
  // Examples name the package as their readers do; the tests among them run against the sources.
  resolve: {
    alias: [
      { find: /^effect-distributed-lock$/, replacement: source("index.ts") },
      { find: /^effect-distributed-lock\/testing$/, replacement: source("testing/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
    globalSetup: "test/servers/globalSetup.ts",
    // Tests of time limits and of command counts want the machine for themselves.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
