import { defineConfig } from "vitest/config"
import type { TestSpecification } from "vitest/node"
import { BaseSequencer } from "vitest/node"

const source = (file: string) => new URL(`src/${file}`, import.meta.url).pathname

/** The order in which files start. */
const order = [
  // They take most of a minute and more, so the others run beside them.
  /conformance\/etcd-cluster/,
  /conformance\/etcd\./,
  /cli\/stores/,
  /conformance\/postgres/,
  /documentation/,
  /simulation/,
  // Of those that run apart, first those that keep the processors busy, and then the longest.
  /-cost|core\/cost/,
  /postgres-refreshes/,
  /redis-idle/,
  /faults\/etcd-cluster/,
  /faults\/postgres\./,
  /etcd-idle/,
  /postgres-crowd/,
  // Faults freeze, kill and fill servers, and wait for what comes of it: the others keep the processors busy meanwhile.
  /faults\/etcd/,
  /faults\/(postgres-late|postgres-sweep|redis-acl|sqlite)/,
  /faults\//,
  /./
]

/** Vitest knows how long a file takes only where it has run before. */
class Sequencer extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification) => order.findIndex((pattern) => pattern.test(moduleId))
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b))
  }
}

/**
 * They count what operations cost, and keep the processors busy with that, or measure how long something takes, or need processes
 * that are not late: so fewer of them run at once.
 */
const apart = [
  "test/core/cost.test.ts",
  "test/backings/{*-cost,postgres-refreshes,etcd-idle,redis-idle,*-revocations}.test.ts",
  "test/faults/{etcd-cluster,exit,postgres,postgres-crowd,redis-failover,redis-migration,redis-outage}.test.ts"
]

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
    // Tests that run at once in one file wait for leases.
    maxConcurrency: 20,
    sequence: { sequencer: Sequencer },
    projects: [
      {
        extends: true,
        test: {
          name: "together",
          include: ["test/**/*.test.ts", "examples/**/*.test.ts"],
          exclude: apart,
          // They wait for leases more than they work. Loading the modules anew for each file would cost most of the time.
          maxWorkers: 5,
          isolate: false,
          sequence: { groupOrder: 0 }
        }
      },
      {
        extends: true,
        test: { name: "apart", include: apart, maxWorkers: 3, isolate: false, sequence: { groupOrder: 1 } }
      }
    ]
  }
})
