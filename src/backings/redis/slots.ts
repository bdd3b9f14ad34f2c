/** Where a Cluster keeps a key. A semaphore's scripts run on one node, and semaphores of one slot may share a call. */
import type { Cluster } from "ioredis"

/** Returns the hash slot of a key, as Redis Cluster specifies it: CRC16 (XMODEM) of the hash tag, modulo 16,384. */
export const slotOf = (key: string): number => {
  const open = key.indexOf("{")
  const close = open < 0 ? -1 : key.indexOf("}", open)
  const tag = close > open + 1 ? key.slice(open + 1, close) : key
  let crc = 0
  for (const byte of new TextEncoder().encode(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff
  }
  return crc % 16_384
}

/** Returns the node that a Cluster's client asks about a slot, or an empty text if it does not know yet. */
export const nodeOf = (cluster: Cluster, slot: number): string => cluster.slots[slot]?.[0] ?? ""
