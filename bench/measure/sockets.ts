/** Counts the bytes that this process's sockets carry: the same measure for every client, whatever its store reports. */
import * as Net from "node:net"

const open = new Set<Net.Socket>()
let ofClosed = 0

const connect = Net.Socket.prototype.connect

const bytesOf = (socket: Net.Socket) => socket.bytesRead + socket.bytesWritten

/** Counts connections that are opened from now on. Those of the bench itself are open already. */
export const track = () => {
  Net.Socket.prototype.connect = function(this: Net.Socket, ...args: Array<unknown>) {
    open.add(this)
    this.once("close", () => {
      open.delete(this)
      ofClosed += bytesOf(this)
    })
    return Reflect.apply(connect, this, args)
  } as typeof connect
}

/** Opens a connection that does not count. */
export const untracked = (port: number, host: string): Net.Socket => {
  const socket = new Net.Socket()
  Reflect.apply(connect, socket, [{ port, host }])
  return socket
}

export const traffic = () => {
  let bytes = ofClosed
  for (const socket of open) bytes += bytesOf(socket)
  return { connections: open.size, bytes }
}
