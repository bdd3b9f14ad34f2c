/**
 * When Redis refuses a command of a script, nothing has changed yet, or the changes so far do no harm. Each command
 * that a script uses is refused at each step of a contended history, and then allowed again.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import type { Redis } from "ioredis"
import * as Scripts from "../../src/backings/redis/scripts.ts"
import type { SemaphoreState } from "../../src/core/Backing.ts"
import { DistributedSemaphoreBacking, RedisBacking } from "../../src/index.ts"
import { connect, server } from "../utils/redis.ts"

const ttl = Duration.minutes(1)
const limit = 4

const commands = Array.from(
  new Set(Object.values(Scripts).flatMap(({ lua }) => Array.from(lua.matchAll(/call\('(\w+)'/g), ([, name]) => name!)))
)

/**
 * Returns what contenders do one after another: ask, wait, refresh, start over, release a part, expire, release. One of
 * them, which must be notified, is of another process.
 */
const history = (backing: DistributedSemaphoreBacking, other: DistributedSemaphoreBacking, key: string) => {
  const ask = (
    id: string,
    permits: number,
    options: { queue?: boolean; limit?: number; ttl?: Duration.Duration } = {}
  ) =>
    backing.tryAcquire(key, id, options.ttl ?? ttl, options.limit ?? limit, permits, { queue: options.queue ?? true })
  const refresh = (...ids: ReadonlyArray<string>) =>
    backing.refreshAll!(ids.map((holderId) => ({ key, holderId, ttl, limit, permits: 1 })))
  return [
    () => ask("a", 2),
    () => ask("brief", 1, { ttl: Duration.millis(100) }),
    () => ask("b", 1),
    () => ask("big", 3),
    () => ask("c", 1),
    () => other.tryAcquire(key, "far", ttl, limit, 1, { queue: true }),
    () => ask("d", 1, { queue: false }),
    () => refresh("a", "b", "big", "c"),
    () => ask("b", 1, { limit: 3 }),
    () => backing.release(key, "a", 1),
    () => Effect.andThen(Effect.sleep(Duration.millis(110)), refresh("c")),
    () => ask("c", 2),
    () => backing.release(key, "a", 1),
    () => backing.release(key, "big", 3),
    () => backing.release(key, "b", 1),
    () => backing.release(key, "c", 2),
    () => backing.release(key, "far", 1),
    () => ask("again", 4),
    () => backing.release(key, "again", 4)
  ] as ReadonlyArray<() => Effect.Effect<unknown, unknown>>
}

/** Checks that the count is that of the holders, that tokens rise, and that no waiter could hold. */
const isRight = ({ holders, line }: SemaphoreState, count: number) => {
  const held = holders.reduce((sum, { permits }) => sum + permits, 0)
  expect(count).toBe(held)
  expect(held).toBeLessThanOrEqual(limit)
  const tokens = [...holders, ...line].map(({ fencingToken }) => fencingToken!)
  expect(tokens).toEqual(tokens.toSorted((a, b) => a < b ? -1 : 1))
  // A contender asked with a smaller limit, by one.
  const [first] = line
  if (first !== undefined) expect(held + first.permits).toBeGreaterThan(limit - 1)
}

const build = Effect.gen(function*() {
  const redisServer = yield* server
  const { url } = redisServer
  const admin = yield* connect(url)
  const call = (...[command, ...args]: readonly [string, ...ReadonlyArray<string>]) =>
    Effect.promise(() => admin.call(command, ...args))
  const acl = (...rules: ReadonlyArray<string>) => call("ACL", "SETUSER", "app", ...rules)
  yield* acl("on", ">secret", "~*", "&*", "+@all")
  const of = (url: string, options?: RedisBacking.RedisBackingOptions) =>
    Effect.gen(function*() {
      const context = yield* Layer.build(RedisBacking.layer(yield* connect(url), options))
      return Context.get(context, DistributedSemaphoreBacking)
    })
  // The scripts use all their commands only with a grace. It is over at once.
  const app = yield* of(url.replace("//", "//app:secret@"), { restartGrace: "1 millis" })
  const healthy = yield* of(url)
  let refused = 0
  return {
    acl,
    call,
    server: redisServer,
    refused: () => refused,
    /** Makes a trouble that begins before an operation, and ends after it. */
    during: (begin: Effect.Effect<unknown>, end: Effect.Effect<unknown>): Trouble => (operation) =>
      begin.pipe(
        Effect.andThen(Effect.exit(operation)),
        Effect.tap((exit) => Effect.andThen(end, Effect.sync(() => exit._tag === "Failure" && refused++))),
        Effect.flatten
      ),
    healthy,
    eachStep: (trouble: Trouble, backing = app) =>
      Effect.forEach(
        steps,
        (step) => survives({ app: backing, healthy }, admin, `key ${step}`, step, trouble),
        { discard: true }
      )
  }
})

type Trouble = <A, E>(operation: Effect.Effect<A, E>) => Effect.Effect<A, E>

/** Runs the history with trouble at one of its steps. Then all contenders leave, and all permits must be free. */
const survives = (
  backings: { readonly app: DistributedSemaphoreBacking; readonly healthy: DistributedSemaphoreBacking },
  admin: Redis,
  key: string,
  step: number,
  trouble: Trouble
) =>
  Effect.gen(function*() {
    const { app, healthy } = backings
    for (const [index, operation] of history(app, healthy, key).entries()) {
      const exit = yield* Effect.exit(index === step ? trouble(operation()) : operation())
      if (index < step) expect(exit._tag).toBe("Success")
    }
    yield* healthy.release(key, "nobody", 1)
    isRight(yield* healthy.inspect!(key), yield* healthy.getCount(key, ttl))
    for (const id of ["a", "b", "big", "c", "far", "d", "again", "brief"]) {
      yield* healthy.release(key, id, limit)
      const state = yield* healthy.inspect!(key)
      isRight(state, yield* healthy.getCount(key, ttl))
    }
    expect(yield* healthy.inspect!(key)).toMatchObject({ holders: [], line: [] })
    expect(yield* healthy.tryAcquire(key, "all", ttl, limit, limit)).toMatchObject({ _tag: "Acquired" })
    expect(yield* healthy.tryAcquire(key, "one more", ttl, limit, 1)).toBe(false)
    expect(yield* healthy.release(key, "all", limit)).toBe(limit)
    expect(yield* Effect.promise(() => admin.zrange(`semaphore:{${key}}`, "0", "-1"))).toEqual(["last"])
    expect(yield* Effect.promise(() => admin.pttl(`semaphore:{${key}}`))).toBeGreaterThan(0)
  })

const steps = Array.from({ length: history(undefined as never, undefined as never, "").length }, (_, step) => step)

/** They wait more than they work, each with a server of its own. */
describe("a contended history keeps its sums, and frees all permits in the end, if at any one step", {
  concurrent: true
}, () => {
  it.live.each([...commands.map((command) => command.toLowerCase()), "publish"])(
    "%s is refused by the ACL, and allowed again",
    (command) =>
      Effect.gen(function*() {
        const { acl, call, during, eachStep, refused } = yield* build
        yield* eachStep(during(acl(`-${command}`), acl(`+${command}`)))
        // An operation does not fail if its message can't be published.
        if (command === "publish") expect(String(yield* call("ACL", "LOG"))).toContain("publish")
        else expect(refused()).toBeGreaterThan(0)
      }),
    60_000
  )

  it.live("the server is full, and empty again", () =>
    Effect.gen(function*() {
      const { call, during, eachStep, refused } = yield* build
      const maxmemory = (bytes: string) => call("CONFIG", "SET", "maxmemory", bytes)
      yield* call("CONFIG", "SET", "maxmemory-policy", "noeviction")
      yield* eachStep(during(maxmemory("1"), maxmemory("0")))
      expect(refused()).toBeGreaterThan(0)
    }), 60_000)

  it.live("the server is a replica, and a primary again", () =>
    Effect.gen(function*() {
      const { call, during, eachStep, refused } = yield* build
      yield* eachStep(during(call("REPLICAOF", "127.0.0.1", "1"), call("REPLICAOF", "NO", "ONE")))
      expect(refused()).toBeGreaterThan(0)
    }), 60_000)

  it.live("the server is killed, forgets all, and is started again", () =>
    Effect.gen(function*() {
      const { during, eachStep, healthy, server } = yield* build
      const restart = Effect.promise(async () => {
        await server.kill()
        await server.restart()
      })
      // It forgets its users, too: the history uses the default user.
      yield* eachStep(during(restart, Effect.void), healthy)
    }), 60_000)
})
