/** Keys and identifiers are arbitrary strings (B8) in a database of any encoding. */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { inject } from "vitest"
import { PostgresBacking } from "../../src/backings/postgres/index.ts"
import { casesFor } from "../../src/testing/cases.ts"
import { buildOn, client, connect, freshName } from "../utils/postgres.ts"

const minute = Duration.minutes(1)

describe.each(["LATIN1", "SQL_ASCII"])("a database in %s", (encoding) => {
  const name = freshName()
  const url = Object.assign(new URL(inject("postgresUrl")), { pathname: name }).href
  const created = Effect.flatMap(
    connect(inject("postgresUrl")),
    (owner) => owner.unsafe(`create database ${name} encoding ${encoding} locale 'C' template template0`)
  )

  it.live("keeps keys and identifiers of any characters, and answers with them", () =>
    Effect.gen(function*() {
      yield* created
      const { backing } = yield* buildOn(url)()
      for (const text of ["é", "ключ", "鍵", "🔑", "\ud800", "\u0000", "\u007f\u0080\u009f", "\\u00e9", "€"]) {
        expect(yield* backing.tryAcquire(text, text, minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        expect(yield* backing.tryAcquire(text, `${text}!`, minute, 1, 1, { queue: true })).toMatchObject({
          position: 0
        })
        const { holders, line } = yield* backing.inspect!(text)
        expect(holders.map(({ identifier }) => identifier)).toEqual([text])
        expect(line.map(({ identifier }) => identifier)).toEqual([`${text}!`])
        expect(yield* backing.refresh(text, text, minute, 1, 1)).toMatchObject({ _tag: "Acquired" })
        expect(yield* backing.release(text, text, 1)).toBe(1)
      }
    }))

  const options = {
    layer: PostgresBacking.layer().pipe(Layer.provide(client(url))),
    capabilities: ["queue", "tokens", "push", "inspect", "partialRelease"]
  } as const
  for (const { name, rule, run } of casesFor(options)) {
    if (rule === "B8") it.live(`B8: ${name}`, () => run(options))
  }
})
