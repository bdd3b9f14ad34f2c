/** What the messages of errors say about their causes, whatever a cause is. */
import { describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import { LockLostError, LockNotAcquiredError, SemaphoreBackingError } from "../../src/index.ts"

const thrower = () => {
  throw new Error("no text")
}

describe("the message of a SemaphoreBackingError", () => {
  const causes: ReadonlyArray<readonly [cause: unknown, text: string]> = [
    ["connection refused", "connection refused"],
    [new Error("READONLY You can't write"), "Error: READONLY You can't write"],
    [new Error("outer", { cause: new Error("inner") }), "Error: outer (cause: Error: inner)"],
    [undefined, "undefined"],
    [Symbol("down"), "Symbol(down)"],
    [Object.create(null), "{}"],
    [{ code: 7 }, "{\"code\":7}"],
    [{ toString: thrower }, "[toString threw]"],
    [{ toString: () => ({}) }, "[object Object]"],
    [Object.defineProperty({}, Symbol.iterator, { get: thrower }), "[inspection threw]"]
  ]
  it.each(causes)("shows the cause %o", (cause, text) => {
    const { message } = new SemaphoreBackingError({ operation: "release", cause })
    expect(message).toBe(`Backing store error during "release": ${text}`)
  })
})

describe("the message of a LockLostError", () => {
  const lost = { key: "key", identifier: "me" }
  const cause = new SemaphoreBackingError({ operation: "refresh", cause: "READONLY" })

  it("says that the lease was not renewed in time, and why, if that is known", () => {
    const message = `Holder "me" gave up its permits of "key": the store did not renew its lease in time`
    expect(new LockLostError({ ...lost, reason: "unreachable" }).message).toBe(message)
    expect(new LockLostError({ ...lost, reason: "unreachable", cause }).message).toBe(`${message}. ${cause.message}`)
  })

  it("says that the lease expired", () => {
    expect(new LockLostError({ ...lost, reason: "expired" }).message).toBe(
      `Holder "me" lost its permits of "key": its lease expired`
    )
  })
})

describe("an error that was sent as JSON", () => {
  const cause = new SemaphoreBackingError({ operation: "refresh", cause: new TypeError("READONLY") })
  it.each([
    cause,
    new LockNotAcquiredError({ key: "key", identifier: "me" }),
    new LockLostError({ key: "key", identifier: "me", reason: "unreachable", cause })
  ])("is the same error with the same message: $_tag", (error) => {
    const codec = Schema.toCodecJson(Schema.Union([LockLostError, LockNotAcquiredError, SemaphoreBackingError]))
    const json = JSON.stringify(Schema.encodeSync(codec)(error))
    const received = Schema.decodeUnknownSync(codec)(JSON.parse(json))
    expect(received).toBeInstanceOf(error.constructor)
    expect(received.message).toBe(error.message)
    expect({ ...received, cause: undefined }).toEqual({ ...error, cause: undefined })
  })
})
