/** What scenarios share. */
import type { Counters } from "../measure/counters.ts"
import { sleep, until } from "../measure/meter.ts"
import type { Measures } from "../report/results.ts"
import type { Client, Setting, Subject, Worker } from "../subjects/subject.ts"

export interface Context {
  readonly subject: Subject
  readonly url: string
  /** No other run uses it. */
  readonly key: string
  readonly counters: Counters
  readonly number: (parameter: string) => number
  readonly text: (parameter: string) => string
  readonly open: (setting: Partial<Setting>) => Promise<Client>
}

export interface Finding {
  readonly measures: Measures
  /** Says what the figures cover, if the scenario was not finished. */
  readonly cutOff?: string | undefined
  /** A note for the table. */
  readonly note?: string | undefined
}

/** Measures one stretch of work. It leaves nothing behind that goes on. */
export type Measure = () => Promise<Finding>

/** Opens clients and warms them up. Resolves to what measures a stretch of work, once for each round. */
export type Scenario = (context: Context) => Promise<Measure>

/** A caller that polls may take long to notice that it is its turn. */
const millisToEnd = 5000

/** Runs callers, and collects what went wrong with them. */
export const crew = (client: Client) => {
  const failures: Array<string> = []
  const running: Array<Promise<void>> = []
  return {
    start: (worker: Worker): void => {
      const ended = client.run(worker).catch((error: unknown) => {
        failures.push(error instanceof Error ? error.message : String(error))
      })
      running.push(ended)
    },
    /** Resolves when all callers have ended, or after some seconds. */
    ended: (): Promise<unknown> => Promise.race([Promise.all(running), sleep(millisToEnd)]),
    failures: () => failures.length,
    trouble: (): string | undefined =>
      failures.length === 0 ? undefined : `${failures.length} callers failed: ${failures[0]!.slice(0, 200)}`
  }
}

/** Makes a worker that asks once. */
export const once = (key: string, holding: () => void | Promise<void>, rest: Partial<Worker> = {}): Worker => {
  let asked = false
  return {
    next: () => {
      if (asked) return undefined
      asked = true
      return { key, permits: 1 }
    },
    holding,
    ...rest
  }
}

/** Starts a caller that acquires the key. Resolves, once it holds, to a function that makes it release. */
export const hold = (client: Client, key: string): Promise<() => void> =>
  new Promise((held, failed) => {
    let asked = false
    const worker: Worker = {
      next: () => {
        if (asked) return undefined
        asked = true
        return { key, permits: 1, long: true }
      },
      holding: () => new Promise<void>((release) => held(release))
    }
    client.run(worker).catch(failed)
  })

/** Runs cycles on a key of its own for a time, so that connections are open and code is compiled. */
export const warmUp = async (client: Client, key: string, millis: number) => {
  const deadline = performance.now() + millis
  let cycles = 0
  await client.run({
    next: () => cycles++ < 5 || performance.now() < deadline ? { key: `${key}-warm`, permits: 1 } : undefined,
    holding: () => {}
  })
}

/**
 * Waits until `count` callers wait for the key, or, where nobody can tell, for a time after which they should. A rest is included,
 * so that whatever they do on arrival is over. Resolves to what is missing, if anything.
 */
export const untilWaiting = async (client: Client, key: string, count: number): Promise<string | undefined> => {
  const { waiting } = client
  if (waiting === undefined) {
    await sleep(300 + Math.min(8000, 3 * count))
    return undefined
  }
  let arrived = 0
  const all = await until(async () => (arrived = await waiting(key).catch(() => arrived)) >= count, 60_000)
  await sleep(200 + Math.min(2000, count))
  return all ? undefined : `only ${arrived} of ${count} got in line within 60 s`
}
