/** B7, C2, L1 and L3: notifications. */
import { Duration, Effect, Stream } from "effect"
import { FencingToken } from "../../../src/index.ts"
import { broken, withSignals } from "./broken.ts"
import type { Contender, Request } from "./plain.ts"
import { Plain, wrong } from "./plain.ts"

let restarts = 0

/** Can notify waiters that were not granted, too. */
class Talkative extends Plain {
  notifyWaiters(count: number) {
    this.line.filter(({ holds }) => !holds).slice(0, count).forEach((waiter) => this.notify(waiter))
  }
}

export const backings = [
  broken(
    "B7: a subscription of a boolean backing emits when permits are released",
    "emits nothing",
    () => ({ onPermitsReleased: () => Stream.never })
  ),

  broken("B7: a subscription emits when it is established", "does not say when the subscription stands", (memory) => ({
    onPermitsReleased: (key) => Stream.drop(memory.onPermitsReleased!(key), 1)
  })),

  wrong(
    "B7: one subscription hears the grants of all waiters of its process, also of those that came before it",
    "notifies only of the first in line",
    class extends Plain {
      private behind: ReadonlySet<Contender> = new Set()
      override release(id: string, permits: number, token?: bigint) {
        this.behind = new Set(this.line.filter(({ holds }) => !holds).slice(1))
        const freed = super.release(id, permits, token)
        this.behind = new Set()
        return freed
      }
      override notify(contender: Contender) {
        if (!this.behind.has(contender)) super.notify(contender)
      }
    }
  ),

  wrong(
    "B7: a grant for an earlier place of the same identifier never reaches the later one",
    "notifies of the first place of an identifier",
    class extends Plain {
      private readonly first = new Map<string, bigint>()
      override join(request: Request) {
        const contender = super.join(request)
        this.first.set(request.id, this.first.get(request.id) ?? contender.token)
        return contender
      }
      override notify(contender: Contender) {
        super.notify({ ...contender, token: this.first.get(contender.id)! })
      }
    }
  ),

  wrong(
    "B7: what an operation grants because a hold has expired is heard",
    "notifies of nothing that expiry grants",
    class extends Plain {
      private expires = false
      override expire(now: bigint) {
        this.expires = true
        super.expire(now)
        this.expires = false
      }
      override notify(contender: Contender) {
        if (!this.expires) super.notify(contender)
      }
    }
  ),

  broken(
    "B7: a subscription goes on after a restart of the store",
    "does not subscribe again after a restart",
    (memory) => {
      const before = restarts
      return {
        onPermitsReleased: (key) => Stream.filter(memory.onPermitsReleased!(key), () => restarts === before)
      }
    },
    { restart: Effect.sync(() => void restarts++) }
  ),

  broken(
    "C2: a release notifies the waiters at the front that fit together, and no others",
    "notifies everybody",
    (memory) => withSignals(memory, (signals) => Stream.flatMap(signals, (token) => Stream.make(token, undefined)))
  ),

  wrong(
    "C2: a release notifies nobody while the first in line does not fit",
    "notifies the first in line with every release",
    class extends Talkative {
      override release(id: string, permits: number, token?: bigint) {
        const freed = super.release(id, permits, token)
        this.notifyWaiters(1)
        return freed
      }
    }
  ),

  wrong(
    "C2: when a waiter leaves, those behind it that fit now are notified",
    "notifies nobody when a waiter leaves",
    class extends Plain {
      private leaves = false
      override release(id: string, permits: number, token?: bigint) {
        this.leaves = this.find(id, token)?.holds === false
        const freed = super.release(id, permits, token)
        this.leaves = false
        return freed
      }
      override notify(contender: Contender) {
        if (!this.leaves) super.notify(contender)
      }
    }
  ),

  wrong(
    "C2: a release notifies as many of a hundred waiters as fit",
    "notifies of no more than ten at once",
    class extends Plain {
      private left = 10
      override grant(asker?: Contender) {
        this.left = 10
        super.grant(asker)
      }
      override notify(contender: Contender) {
        if (this.left-- > 0) super.notify(contender)
      }
    }
  ),

  broken(
    "L1: releases notify waiters in the order of the line",
    "notifies of the next token instead",
    (memory) => withSignals(memory, Stream.map((token) => token && FencingToken(token + 1n)))
  ),

  broken(
    "L3: a lost notification delays the first in line by 1 s at most",
    "lets the first in line rely on notifications for 2 s",
    (memory) => {
      const late = <A>(answer: A): A =>
        typeof answer === "object" && answer !== null && "retryAfter" in answer
          ? { ...answer, retryAfter: Duration.seconds(2) }
          : answer
      return {
        tryAcquire: (...args) => Effect.map(memory.tryAcquire(...args), late),
        refresh: (...args) => Effect.map(memory.refresh(...args), late)
      }
    }
  )
]
