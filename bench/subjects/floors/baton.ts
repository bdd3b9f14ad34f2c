/**
 * The least that a hand-off can be is a baton that stays in this process: the release is one request that notifies, and the
 * next waiter goes on when the notification arrives.
 */
import { promiseClient } from "../subject.ts"

/** `pass` must lead to a call of `arrived` with the key. */
export const baton = (pass: (key: string) => Promise<unknown>) => {
  const held = new Set<string>()
  const lines = new Map<string, Array<() => void>>()
  const client = promiseClient(async ({ key }) => {
    if (held.has(key)) {
      await new Promise<void>((resolve) => {
        const line = lines.get(key)
        if (line) line.push(resolve)
        else lines.set(key, [resolve])
      })
    }
    held.add(key)
    return () => pass(key)
  })
  const arrived = (key: string) => {
    const line = lines.get(key)
    const next = line?.shift()
    if (line?.length === 0) lines.delete(key)
    // Only now: otherwise whoever asks before this arrival would make a second baton.
    if (next === undefined) held.delete(key)
    else next()
  }
  return { client: { ...client, waiting: async (key: string) => lines.get(key)?.length ?? 0 }, arrived }
}
