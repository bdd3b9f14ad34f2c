import { Effect, Layer } from "effect"
import { EtcdBacking } from "../../src/backings/etcd/index.ts"
import * as EtcdServer from "./etcdServer.ts"
import { backingSuite } from "./telling/index.ts"

const { client, options } = await EtcdServer.start()

backingSuite("EtcdBacking", {
  layer: Layer.unwrap(Effect.map(client, (etcd) => EtcdBacking.layer(etcd))),
  ...options
}, "properties")
