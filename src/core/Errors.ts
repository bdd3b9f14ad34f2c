/**
 * The errors of a semaphore. Contention is not an error: `take` waits, and `tryTake` answers with an `Option`. Each error is a
 * `Schema`, so it survives serialization: what a store's client reported comes out of it as an `Error` with its name and message.
 *
 * @since 0.1.0
 */
import * as Formatter from "effect/Formatter"
import * as Schema from "effect/Schema"

/**
 * The store failed, refused or did not answer an operation, and the `backingFailureRetryPolicy` has ended.
 *
 * **Details**
 *
 * `operation` is the member of the backing that failed (`"tryAcquire"`, `"refresh"`, …), `cause` what its store's client
 * reported, or a `Cause.TimeoutError` if there was no answer within the time limit of one attempt.
 *
 * @category errors
 * @since 0.1.0
 */
export class SemaphoreBackingError extends Schema.TaggedError<SemaphoreBackingError>()("SemaphoreBackingError", {
  operation: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const why = typeof this.cause === "string" ? this.cause : Formatter.format(this.cause)
    return `Backing store error during "${this.operation}": ${why}`
  }
}

/**
 * The lease of a hold ended while its holder still worked under it. `withPermits` has interrupted the work.
 *
 * **Details**
 *
 * - `"expired"`: the store no longer knows the hold, and its time was over.
 * - `"revoked"`: the store no longer knows the hold, though it had time left: an operator, an eviction or a failover took it.
 * - `"unreachable"`: the store has not confirmed the lease for so long that it may give the permits to others. `cause` is
 *   the last failure of a refresh, if one failed: the store may be out of reach, read-only, full, or may refuse the client.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockLostError extends Schema.TaggedError<LockLostError>()("LockLostError", {
  key: Schema.String,
  identifier: Schema.String,
  reason: Schema.Literals(["expired", "revoked", "unreachable"]),
  cause: Schema.optional(SemaphoreBackingError)
}) {
  override get message(): string {
    if (this.reason !== "unreachable") {
      const how = this.reason === "expired" ? "its lease expired" : "the store no longer knows the hold"
      return `Holder "${this.identifier}" lost its permits of "${this.key}": ${how}`
    }
    const why = this.cause === undefined ? "" : `. ${this.cause.message}`
    return `Holder "${this.identifier}" gave up its permits of "${this.key}": the store did not renew its lease in time${why}`
  }
}

/**
 * The permits were not acquired: the `acquireRetryPolicy` ended, or the hold that was said to be `acquiredExternally`
 * does not exist any more, or has fewer permits.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockNotAcquiredError extends Schema.TaggedError<LockNotAcquiredError>()("LockNotAcquiredError", {
  key: Schema.String,
  identifier: Schema.String
}) {
  override get message(): string {
    return `Holder "${this.identifier}" did not acquire its permits of "${this.key}": the acquireRetryPolicy ended, or there was no hold to resume`
  }
}
