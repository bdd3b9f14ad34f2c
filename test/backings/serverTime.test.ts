/** The bound of a server's clock, without a server. */
import { expect, it } from "@effect/vitest"
import * as ServerTime from "../../src/backings/internal/serverTime.ts"

const second = 1_000_000

it("a slow reply does not loosen the bound that a quick one gave, and a clock that was set replaces it", () => {
  const serverTime = ServerTime.make()
  const now = ServerTime.localTime()
  const bound = () => serverTime.at("server", now)! - now
  // The server is 100 seconds ahead. The second request waited there for four seconds, until a moment ago.
  serverTime.learn("server", now, now + 100 * second)
  serverTime.learn("server", now - 4 * second, now + 100 * second)
  expect(bound()).toBeCloseTo(100 * second, -1)
  for (const ahead of [200, 50]) {
    serverTime.learn("server", now, now + ahead * second)
    expect(bound()).toBeCloseTo(ahead * second, -1)
  }
})
