/** Seeds that once failed, and what each found. They are run first, by every run. */
export const seeds: ReadonlyArray<readonly [seed: string, found: string]> = []
