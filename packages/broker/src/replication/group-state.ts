// What the log of a replica carries through checkpoints, truncations and installs: who belongs to the group, and the state of
// whoever owns the log.
//   u8 0xc1, u8 version, configurations (group-configurations.ts); then the owner's state, to the end
// No owner's state begins with 0xc1: one without is of a log that was written before groups could change.
import { type BatchHeader, type LogPart, ProtocolError, Reader, Writer } from '@millrace/protocol'
import type { Configuration } from '../raft/raft-types.js'
import type { LogState } from '../storage/log-store.js'
import { GroupConfigurations } from './group-configurations.js'
import { configurationOf } from './raft-batch.js'

const MARK = 0xc1
const VERSION = 1

export class GroupState implements LogState {
  readonly configurations = new GroupConfigurations()

  constructor(private readonly owner: LogState) {}

  encodeState(): Uint8Array {
    return encode(this.configurations, this.owner.encodeState())
  }

  restoreState(state: Uint8Array | null): void {
    this.configurations.restore(null)
    this.owner.restoreState(state === null ? null : ownerStateOf(state, this.configurations))
  }

  replay(part: LogPart, header: BatchHeader, bytes: Uint8Array, clientAt: number): void {
    const configuration = configurationOf(header, bytes, clientAt)
    if (configuration !== null) this.configurations.note(part.index, configuration)
    this.owner.replay(part, header, bytes, clientAt)
  }
}

/** The state of a log that begins, empty, with this configuration in force. */
export function encodeBeginning(configuration: Configuration, ownerState: Uint8Array): Uint8Array {
  const configurations = new GroupConfigurations()
  configurations.restore(configuration)
  return encode(configurations, ownerState)
}

function encode(configurations: GroupConfigurations, ownerState: Uint8Array): Uint8Array {
  const writer = new Writer(64 + ownerState.length)
  writer.u8(MARK).u8(VERSION)
  configurations.encode(writer)
  return writer.bytes(ownerState).written()
}

/**
 * What of a state belongs to the owner of the log.
 * @param configurations take the rest in.
 * @throws ProtocolError CORRUPT_FRAME, UNSUPPORTED_FEATURE.
 */
export function ownerStateOf(state: Uint8Array, configurations = new GroupConfigurations()): Uint8Array {
  if (state[0] !== MARK) return state
  const reader = new Reader(state)
  reader.u8()
  const version = reader.u8()
  if (version !== VERSION) throw new ProtocolError('UNSUPPORTED_FEATURE', `group state of version ${version}`)
  configurations.decode(reader)
  return reader.bytes(reader.remaining)
}
