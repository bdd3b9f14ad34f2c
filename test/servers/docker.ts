/** Servers in containers, through testcontainers. */
import type { GenericContainer } from "testcontainers"
import type { Server } from "./server.ts"
import { freePort, untilReady } from "./server.ts"
import type { Store } from "./stores.ts"
import { imageOf } from "./stores.ts"

/** The processes of a run share what the first of them finds out, because to load testcontainers takes a second. */
export const isAvailable = async (): Promise<boolean> => {
  if (process.env.TESTS_USE_DOCKER === undefined) {
    const { getContainerRuntimeClient } = await import("testcontainers")
    process.env.TESTS_USE_DOCKER = await getContainerRuntimeClient().then(() => "yes", () => "no")
  }
  return process.env.TESTS_USE_DOCKER === "yes"
}

export const start = async (
  store: Store,
  configure: (definition: GenericContainer) => GenericContainer = (definition) => definition
): Promise<Server> => {
  const { GenericContainer, getContainerRuntimeClient, Wait } = await import("testcontainers")
  const port = await freePort()
  let output = ""
  const definition = new GenericContainer(imageOf(store.name))
    .withExposedPorts({ container: store.containerPort, host: port })
    .withEnvironment(store.environment)
    .withLogConsumer((stream) => stream.on("data", (data) => output = (output + data).slice(-4000)))
    // Waits for nothing: by default a shell in the container looks for the port, but the image of etcd has no shell.
    .withWaitStrategy(Wait.forAll([]))
  if (store.command.length > 0) definition.withCommand([...store.command])
  const started = await configure(definition).start()
  const { container: containers } = await getContainerRuntimeClient()
  const container = containers.getById(started.getId())
  const ready = () =>
    untilReady(store, port, async () => (await container.inspect()).State.Running ? undefined : output)
  await ready().catch(async (error) => {
    await started.stop()
    throw error
  })
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
