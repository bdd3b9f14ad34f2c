/** How much random testing there is: ten times as much in `npm run test:long`; exactly one case again with `REPLAY`. */
const scale = Number(process.env.CONFORMANCE_SCALE ?? 1)

export const runs = {
  sequences: 200 * scale,
  histories: 50 * scale,
  replay: process.env.REPLAY
}
