import { Effect, Layer } from "effect"
import { afterAll } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import * as EtcdCluster from "../servers/etcdCluster.ts"
import { connect } from "../utils/etcd.ts"
import { options } from "./etcdServer.ts"

const cluster = await EtcdCluster.start()
afterAll(() => cluster.stop())

/** A new leader gives every lease its whole time again. */
const term = connect(cluster.urls).pipe(
  Effect.flatMap((client) => Effect.promise(() => client.kv.range({ key: Buffer.from("term") }))),
  Effect.map(({ header }) => header.raft_term),
  Effect.scoped
)

backingSuite("EtcdBacking on three members", {
  layer: Layer.unwrap(Effect.map(connect(cluster.urls), (client) => EtcdBacking.layer(client))),
  ...options,
  epoch: term
})
