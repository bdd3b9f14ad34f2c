/** Checks the promises from outside, by one snapshot of the store after another. */
import type { Backing } from "../src/index.ts"

export interface Audit {
  readonly see: (state: Backing.SemaphoreState) => void
  readonly summary: () => { readonly lines: ReadonlyArray<string>; readonly kept: boolean }
}

const permitsOf = (entries: ReadonlyArray<{ readonly permits: number }>) =>
  entries.reduce((sum, { permits }) => sum + permits, 0)

export const make = (limit: number): Audit => {
  let most = 0
  let newest = 0n
  let tokensRose = true
  const known = new Set<string>()
  /** The contenders that were seen behind each waiter in line. */
  const behind = new Map<string, Set<string>>()
  const overtaken = new Set<string>()

  return {
    see: ({ holders, line }) => {
      const held = permitsOf(holders)
      most = Math.max(most, held)

      // A token that is new since the last snapshot must be larger than all that were seen before.
      const issued = holders.filter(({ identifier }) => !known.has(identifier))
      tokensRose &&= issued.every(({ fencingToken }) => fencingToken > newest)
      for (const { fencingToken, identifier } of issued) {
        known.add(identifier)
        if (fencingToken > newest) newest = fencingToken
      }

      line.forEach(({ identifier }, place) => {
        const followers = behind.get(identifier) ?? new Set()
        behind.set(identifier, followers)
        // A follower may hold before this waiter if there is room for both: then it overtook nobody.
        const fits = held + permitsOf(line.slice(0, place + 1)) <= limit
        if (!fits && holders.some((holder) => followers.has(holder.identifier))) overtaken.add(identifier)
        for (const follower of line.slice(place + 1)) followers.add(follower.identifier)
      })
    },
    summary: () => {
      const mark = (kept: boolean) => kept ? "✓" : "✗"
      const pairs = Array.from(behind.values()).reduce((sum, followers) => sum + followers.size, 0)
      return {
        lines: [
          `${mark(most <= limit)} most permits out at once: ${most} of ${limit}`,
          `${mark(overtaken.size === 0)} order kept: ${pairs} pairs seen in line, ${overtaken.size} overtaken`,
          `${mark(tokensRose)} fencing tokens rising: ${known.size} seen, the last ${newest}`
        ],
        kept: most <= limit && overtaken.size === 0 && tokensRose && known.size > 0
      }
    }
  }
}
