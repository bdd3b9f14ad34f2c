/**
 * Virtual time. Events happen in the order of (time, sequence). The tasks that they start run before time goes on.
 * Nothing here waits for the machine: a whole run is one synchronous call.
 */
import type { Coverage } from "./coverage.ts"
import type { Process } from "./process.ts"

export interface Event {
  readonly time: number
  readonly sequence: number
  /** The process that it belongs to. While that is paused, it is put off; once that has died, it never happens. */
  readonly process: Process | undefined
  readonly run: () => void
  cancelled: boolean
}

/** More tasks than this, without time going on, count as an endless loop. */
const mostTasks = 20_000

export class World {
  /** True time, which is also the store's, in milliseconds. */
  now = 0
  /** The process that runs just now. */
  current: Process | undefined
  readonly processes: Array<Process> = []
  readonly coverage: Coverage
  /** How many events have happened. */
  events = 0
  private readonly heap: Array<Event> = []
  private sequence = 0
  private readonly story: Array<string> | undefined

  constructor(coverage: Coverage, story: Array<string> | undefined) {
    this.coverage = coverage
    this.story = story
  }

  at(time: number, process: Process | undefined, run: () => void): Event {
    const event = { time: Math.max(time, this.now), sequence: this.sequence++, process, run, cancelled: false }
    push(this.heap, event)
    return event
  }

  after(millis: number, process: Process | undefined, run: () => void): Event {
    return this.at(this.now + millis, process, run)
  }

  /** Returns when the next event happens, or `undefined` if nothing happens any more. */
  nextTime(): number | undefined {
    while (this.heap[0]?.cancelled) pop(this.heap)
    return this.heap[0]?.time
  }

  /** Lets the next event happen, and all that comes of it at once. */
  step(): void {
    const event = pop(this.heap)!
    this.now = event.time
    this.events++
    if (event.process === undefined) event.run()
    else event.process.deliver(event.run)
    this.settle()
  }

  /** Runs what is ready, until nothing is. */
  settle(): void {
    for (let tasks = 0, busy = true; busy;) {
      busy = false
      for (const process of this.processes) {
        const task = process.nextTask()
        if (task === undefined) continue
        busy = true
        this.within(process, task)
        if (++tasks > mostTasks) throw new Error(`process ${process.name} runs without end, and without time going on`)
      }
    }
  }

  within(process: Process, run: () => void): void {
    const before = this.current
    this.current = process
    run()
    this.current = before
  }

  tell(line: () => string): void {
    this.story?.push(`${this.now.toFixed(2).padStart(10)}  ${line()}`)
  }
}

const isBefore = (a: Event, b: Event) => a.time < b.time || a.time === b.time && a.sequence < b.sequence

const push = (heap: Array<Event>, event: Event): void => {
  let index = heap.length
  heap.push(event)
  while (index > 0) {
    const parent = (index - 1) >> 1
    if (!isBefore(event, heap[parent]!)) break
    heap[index] = heap[parent]!
    index = parent
  }
  heap[index] = event
}

const pop = (heap: Array<Event>): Event | undefined => {
  const first = heap[0]
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return first
  let index = 0
  for (;;) {
    let child = 2 * index + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
    if (!isBefore(heap[child]!, last)) break
    heap[index] = heap[child]!
    index = child
  }
  heap[index] = last
  return first
}
