/** A floor in memory. */
import { Semaphore } from "../effect.ts"
import { worker } from "../fibers.ts"
import type { Client, Setting } from "../subject.ts"

export const effectSemaphore = async ({ limit }: Setting): Promise<Client> => {
  const semaphores = new Map<string, Semaphore.Semaphore>()
  return {
    run: worker((key) => {
      const known = semaphores.get(key)
      if (known) return known
      const made = Semaphore.makeUnsafe(limit)
      semaphores.set(key, made)
      return made
    })
  }
}
