// What Raft writes into the logs of its groups: a batch in which a term begins, and a batch that changes who belongs to
// the group. Values:
//   term begin      u32 node that leads
//   configuration   u16 count + u32 each: voters, outgoing voters, learners
import { type BatchHeader, ProtocolError, Reader, Writer } from '@millrace/protocol'
import type { Configuration } from '../raft/raft-types.js'
import { CONTROL_KINDS, controlValueOf, type LogPlace, sealControlBatch } from '../storage/control-batch.js'

const MAX_MEMBERS = 64

/** The client part of the batch that a new leader writes first. @param wallMs milliseconds since 1970. */
export function sealTermBegin(nodeId: number, place: LogPlace, index: number, wallMs: number): Uint8Array {
  return sealControlBatch(CONTROL_KINDS.termBegin, new Writer(4).u32(nodeId).written(), place, index, wallMs)
}

/** The client part of the batch that changes a group's configuration. */
export function sealConfiguration(
  configuration: Configuration,
  place: LogPlace,
  index: number,
  wallMs: number,
): Uint8Array {
  const writer = new Writer(64)
  writeConfiguration(writer, configuration)
  return sealControlBatch(CONTROL_KINDS.configuration, writer.written(), place, index, wallMs)
}

/** The configuration that a batch brings, whose checksum holds; null for every other batch. */
export function configurationOf(header: BatchHeader, bytes: Uint8Array, clientAt: number): Configuration | null {
  const value = controlValueOf(CONTROL_KINDS.configuration, header, bytes, clientAt)
  if (value === null) return null
  try {
    return readConfiguration(new Reader(value))
  } catch (cause) {
    if (cause instanceof ProtocolError) return null
    throw cause
  }
}

export function writeConfiguration(writer: Writer, { voters, outgoing, learners }: Configuration): void {
  for (const nodes of [voters, outgoing, learners]) {
    writer.u16(nodes.length)
    for (const node of nodes) writer.u32(node)
  }
}

/** @throws ProtocolError CORRUPT_FRAME. */
export function readConfiguration(reader: Reader): Configuration {
  const nodes = (): number[] => [...reader.list(reader.u16(), 4, MAX_MEMBERS, (from) => from.u32())]
  return { voters: nodes(), outgoing: nodes(), learners: nodes() }
}
