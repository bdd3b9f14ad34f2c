import { Effect, Layer } from "effect"
import { afterAll, describe, it } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { casesFor } from "../../src/testing/index.ts"
import * as EtcdCluster from "../servers/etcdCluster.ts"
import { connect } from "../utils/etcd.ts"
import { options } from "./etcdServer.ts"
import { isLong } from "./runs.ts"
import { inTurn } from "./sharedClients.ts"

const cluster = await EtcdCluster.start()
afterAll(() => cluster.stop())

const client = await inTurn(connect(cluster.urls))

/** A new leader gives every lease its whole time again. */
const term = client.pipe(
  Effect.flatMap((etcd) => Effect.promise(() => etcd.kv.range({ key: Buffer.from("term") }))),
  Effect.map(({ header }) => header.raft_term)
)

const suite = {
  layer: Layer.unwrap(Effect.map(client, (etcd) => EtcdBacking.layer(etcd))),
  ...options,
  epoch: term
}

describe("EtcdBacking on three members", () => {
  // What the other cases show, they show on a single server: only the long run has them here.
  const properties = casesFor(suite).slice(-3)
  for (const { name, rule, run, sideBySide } of isLong ? casesFor(suite) : properties) {
    it(`${rule}: ${name}`, { timeout: 30 * 60_000, concurrent: sideBySide }, () => Effect.runPromise(run(suite)))
  }
})
