/** How often each kind of event and each state of the core has come up. */

export class Coverage {
  readonly counts = new Map<string, number>()

  count(kind: string, times = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + times)
  }

  add(other: Coverage): void {
    for (const [kind, times] of other.counts) this.count(kind, times)
  }

  /** What should have come up, but did not. */
  missing(): ReadonlyArray<string> {
    return expected.filter((kind) => !this.counts.has(kind))
  }

  print(): string {
    return Array.from(this.counts).toSorted(([a], [b]) => a < b ? -1 : 1)
      .map(([kind, times]) => `${String(times).padStart(10)}  ${kind}`).join("\n")
  }
}

const expected: ReadonlyArray<string> = []
