/** The effect that ours runs on: the repository's own. In this folder's node_modules is that of 0.0.11. */
export * from "../../node_modules/effect/dist/index.js"
