/** The upper bound of a server's clock, tested without a server. */
import { describe, expect, it } from "vitest"
import * as ServerTime from "../../src/backings/internal/serverTime.ts"

/** Returns the bound at the local time 10 000, after replies to requests that were sent and received at local times. */
const bound = (...replies: ReadonlyArray<readonly [sent: number, time: number, received: number]>) => {
  const serverTime = ServerTime.make()
  for (const [sent, time, received] of replies) serverTime.learn("", sent, time, received)
  return serverTime.at("", 10_000)
}

describe("the bound of a server's clock", () => {
  it("assumes that the first reply was given when its request was sent", () => {
    expect(bound()).toBeUndefined()
    expect(bound([1000, 5003, 1010])).toBe(14_003)
  })

  it("is not changed by the reply to a request that waited", () => {
    expect(bound([1000, 5003, 1010], [2000, 10_002, 6005])).toBe(14_003)
  })

  it("is improved by a faster reply", () => {
    expect(bound([1000, 9002, 5005], [6000, 10_003, 6005])).toBe(14_003)
  })

  it("follows a clock that is set forward or back", () => {
    expect(bound([1000, 5003, 1010], [2000, 66_003, 2010])).toBe(74_003)
    expect(bound([1000, 65_003, 1010], [2000, 6003, 2010])).toBe(14_003)
  })
})
