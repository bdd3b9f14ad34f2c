import { Effect, Layer } from "effect"
import { afterAll } from "vitest"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import { backingSuite } from "../../src/testing/index.ts"
import * as EtcdCluster from "../servers/etcdCluster.ts"
import { connect } from "../utils/etcd.ts"
import { options } from "./etcdServer.ts"
import { inTurn } from "./sharedClients.ts"

const cluster = await EtcdCluster.start()
afterAll(() => cluster.stop())

const client = await inTurn(connect(cluster.urls))

/** A new leader gives every lease its whole time again. */
const term = client.pipe(
  Effect.flatMap((etcd) => Effect.promise(() => etcd.kv.range({ key: Buffer.from("term") }))),
  Effect.map(({ header }) => header.raft_term)
)

backingSuite("EtcdBacking on three members", {
  layer: Layer.unwrap(Effect.map(client, (etcd) => EtcdBacking.layer(etcd))),
  ...options,
  epoch: term
})
