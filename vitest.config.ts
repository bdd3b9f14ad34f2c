import { defineConfig } from "vitest/config"

const source = (file: string) => new URL(`src/${file}`, import.meta.url).pathname

/** They count requests, measure how long something takes, or do nothing but work: they want the machine for themselves. */
const alone = [
  "test/core/cost.test.ts",
  "test/simulation/*.test.ts",
  "test/backings/*-{cost,revocations}.test.ts",
  "test/faults/{exit,postgres,postgres-crowd,redis-failover,redis-full,redis-outage}.test.ts"
]

/** They freeze, kill and fill servers, and wait for what comes of it. */
const faults = ["test/faults/*.test.ts", "test/backings/postgres-refreshes.test.ts"]

export default defineConfig({
  // Examples name the package as their readers do; the tests among them run against the sources.
  resolve: {
    alias: [
      { find: /^effect-distributed-lock$/, replacement: source("index.ts") },
      { find: /^effect-distributed-lock\/testing$/, replacement: source("testing/index.ts") }
    ]
  },
  test: {
    globalSetup: "test/servers/globalSetup.ts",
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
          exclude: [...faults, ...alone],
          // They wait for leases more than they work. Loading the modules anew for each file would cost most of the time.
          maxWorkers: 4,
          isolate: false,
          sequence: { groupOrder: 0 }
        }
      },
      {
        extends: true,
        test: {
          name: "faults",
          include: faults,
          exclude: alone,
          maxWorkers: 3,
          isolate: false,
          sequence: { groupOrder: 1 }
        }
      },
      { extends: true, test: { name: "alone", include: alone, fileParallelism: false, sequence: { groupOrder: 2 } } }
    ]
  }
})
