/** Seeds that once failed, and what each found. They are run first, by every run. */
export const seeds: ReadonlyArray<readonly [seed: string, found: string]> = [
  ["1400", "After two take-overs of a hold, the first holder went on working when the last one had given it back."],
  ["1687", "A release failed and landed late, on the next hold under the same identifier."],
  ["3560", "After a suspension, the keeper waited for a timer that had stood still with the machine."],
  [
    "705225",
    "A grant was taken over under its identifier, and given back, before the acquisition that it was for had heard of it."
  ]
]
