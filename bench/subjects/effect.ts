/** The Effect that ours runs on is the repository's own: this folder's node_modules have that of 0.0.11. */
export * from "../../node_modules/effect/dist/index.js"
