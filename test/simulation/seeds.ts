/** Seeds that once failed, and what each found. They are run first, by every run. */
export const seeds: ReadonlyArray<readonly [seed: string, found: string]> = [
  ["1400", "After two take-overs of a hold, the first holder went on working when the last one had given it back."],
  ["1687", "A release failed and landed late, on the next hold under the same identifier."],
  ["3560", "After a suspension, the keeper waited for a timer that had stood still with the machine."],
  [
    "705225",
    "A grant was taken over under its identifier, and given back, before the acquisition that it was for had heard of it."
  ],
  ["1027973", "A look waited for a timer that had stood still while the machine was suspended."],
  ["1033329", "The owner of a shared hold was lost, and the hold went on as nobody's."],
  [
    "1085078",
    "A release was repeated after the lease was over, because the machine had been suspended during the pause before."
  ],
  ["41794860854", "A release that was never answered was released after, and freed the next hold of its identifier."],
  ["1795928605348", "An identifier was free a moment before the store's lease was over."],
  ["74965217848", "An alarm waited for a timer that had stood still with the machine."],
  ["1795928682022", "A refresh that failed for one part of the store ended a hold in another."],
  ["126240682209", "An identifier was free at the end of the lease, and a release was still under way."],
  ["1795928589642", "An identifier was free when the wall clock was set forward, and its release was still under way."],
  [
    "1795957148268",
    "While a hold was resumed, another acquisition of its identifier acquired and released: the answer was out of date."
  ],
  [
    "1795957859211",
    "After the wall clock was set forward, nobody had read the clock: so a release seemed to come too late."
  ],
  [
    "1795968184214",
    "A subscription without waiters was closed while a waiter asked, with the grant that it had heard: it had to look."
  ],
  [
    "1795968221160",
    "A fiber yielded between seeing that an identifier was in use and waiting for its end, and missed the end."
  ],
  [
    "1795968245994",
    "A release came very late, and so did refreshes before it: it freed the hold that the next of its identifier had found."
  ],
  [
    "1795969498806",
    "An abandoned acquire ended long after the hold was lost: what was released then was the next hold of the identifier."
  ],
  [
    "928300",
    "The checker took it for a fault that a process died after it had sent a release, which freed the hold that another had resumed."
  ]
]
