/** Servers in containers, through testcontainers. */
import { GenericContainer, getContainerRuntimeClient } from "testcontainers"
import type { Server } from "./server.ts"
import { freePort, untilReady } from "./server.ts"
import type { Store } from "./stores.ts"
import { imageOf } from "./stores.ts"

export const isAvailable = (): Promise<boolean> => getContainerRuntimeClient().then(() => true, () => false)

export const start = async (store: Store): Promise<Server> => {
  const port = await freePort()
  const definition = new GenericContainer(imageOf(store.name))
    .withExposedPorts({ container: store.containerPort, host: port })
    .withEnvironment(store.environment)
  const started = await (store.command.length > 0 ? definition.withCommand([...store.command]) : definition).start()
  const { container: containers } = await getContainerRuntimeClient()
  const container = containers.getById(started.getId())
  const ready = () => untilReady(store, port, () => undefined)
  await ready()
  return {
    url: store.url(port),
    port,
    freeze: async () => void await container.pause(),
    thaw: async () => void await container.unpause(),
    kill: async () => void await container.kill(),
    restart: async () => {
      await container.start()
      await ready()
    },
    stop: async () => void await started.stop()
  }
}
