import { MemoryBacking } from "../../src/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import { runs } from "./runs.ts"

backingSuite("MemoryBacking", {
  layer: MemoryBacking.layer,
  capabilities: ["queue", "push", "partialRelease", "operators"],
  instances: 1,
  virtualTime: true,
  ...runs
})
