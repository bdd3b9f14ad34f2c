import { expect, inject, it } from "vitest"
import { ways } from "./find.ts"
import { stores } from "./stores.ts"

const urls = { redis: inject("redisUrl"), postgres: inject("postgresUrl"), etcd: inject("etcdUrl") }

it.each(Object.values(stores))("a $name server answers", async (store) => {
  expect(await store.isReady(urls[store.name])).toBe(true)
})

it("the error for a missing server names four ways to get one", () => {
  for (const way of ["REDIS_URL", "Docker", "redis-server", "install-test-servers.sh"]) {
    expect(ways(stores.redis)).toContain(way)
  }
})
