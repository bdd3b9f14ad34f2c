import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/servers/globalSetup.ts",
    // Tests of time limits and of command counts want the machine for themselves.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
