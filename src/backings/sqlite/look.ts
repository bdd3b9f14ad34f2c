/** Looks change nothing (B10). Each sees one state of the file, in which contenders may have expired. */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type { SemaphoreState } from "../../core/Backing.ts"
import { FencingToken, mostListed } from "../../core/Backing.ts"
import { decode, encode } from "./names.ts"
import type { Row } from "./semaphore.ts"
import { limitsOf } from "./semaphore.ts"
import type { Reader } from "./store.ts"

interface Expired {
  readonly held: number
  readonly holders: number
  readonly waiters: number
}

interface Listed {
  readonly id: string
  readonly token: number
  readonly permits: number
  readonly expiry: number
  readonly owner: string
  readonly since: number
}

const empty: Row = { held: 0, waiting: 0, limits: "" }

/** Returns the sums, and what of them has expired. */
const sums = ({ connection, now }: Reader, key: string) => ({
  row: connection.get<Row>("semaphore", key) ?? empty,
  expired: connection.get<Expired>("expiredOf", key, now)!
})

export const count = (reader: Reader, key: string): number => {
  const { expired, row } = sums(reader, encode(key))
  return row.held - expired.held
}

export const inspect = (reader: Reader, key: string): SemaphoreState => {
  const { connection, now } = reader
  const { expired, row } = sums(reader, encode(key))
  const describe = ({ expiry, id, owner, permits, since, token }: Listed) => ({
    identifier: decode(id),
    permits,
    fencingToken: FencingToken(BigInt(token)),
    remaining: Duration.micros(BigInt(expiry - now)),
    owner: decode(owner),
    since: DateTime.makeUnsafe(Math.floor(since / 1000))
  })
  return {
    holders: connection.all<Listed>("holders", encode(key), now, mostListed).map(describe),
    line: connection.all<Listed>("waiters", encode(key), now, mostListed).map(describe),
    holderCount: limitsOf(row).reduce((sum, [, holders]) => sum + holders, 0) - expired.holders,
    waiterCount: row.waiting - expired.waiters
  }
}

/** Returns the keys after `last`. All are encoded. */
export const keysAfter = ({ connection, now }: Reader, last: string, most: number): ReadonlyArray<string> =>
  connection.all<{ readonly key: string }>("keysAfter", last, now, most).map(({ key }) => key)
