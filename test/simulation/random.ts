/** Random numbers from a seed: the same seed, the same numbers, on every machine. */

export class Random {
  private state: number

  constructor(seed: string | number) {
    this.state = hash(String(seed))
  }

  /** Returns a number of at least 0 and below 1 (mulberry32). */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** Returns an integer of at least 0 and below the bound. */
  int(below: number): number {
    return Math.floor(this.next() * below)
  }

  between(least: number, most: number): number {
    return least + this.next() * (most - least)
  }

  /** Returns a number. Small orders of magnitude are as likely as large ones. */
  logBetween(least: number, most: number): number {
    return least * (most / least) ** this.next()
  }

  pick<const A>(values: ReadonlyArray<A>): A {
    return values[this.int(values.length)]!
  }
}

/** Hashes a text (FNV-1a). */
const hash = (text: string): number => {
  let value = 0x811c9dc5
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193)
  return value
}
