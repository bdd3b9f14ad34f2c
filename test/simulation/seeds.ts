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
  ]
]
