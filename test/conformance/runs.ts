/** How much random testing there is: ten times as much in `npm run test:long`. `REPLAY` repeats exactly one case. */
const scale = Number(process.env.CONFORMANCE_SCALE ?? 1)

export const runs = {
  sequences: 200 * scale,
  histories: 50 * scale,
  replay: process.env.REPLAY
}

/** Less, for a second suite of the same backing with other options. */
export const fewerRuns = { ...runs, sequences: runs.sequences / 4, histories: runs.histories / 5 }

/** Whether this is the long run. */
export const isLong = scale > 1
