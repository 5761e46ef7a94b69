// The metadata log: commands in, flushed, applied in order. It is the log of topic 0, partition 0, like any other.
import {
  AssertionError,
  crc32,
  LOG_PART_BYTES,
  loggedBatches,
  ProtocolError,
  readBatchHeader,
} from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import { decodeFields, encodeMessagePack } from '../message-pack.js'
import type { LogKey, LogRead, LogState, LogStore, PartitionLog } from '../storage/log-store.js'
import { StorageError } from '../storage/log-store.js'
import { commandOfBatch, sealCommand } from './command-batch.js'
import type { MetadataCommand } from './metadata-command.js'
import { decodeImage, MetadataState } from './metadata-state.js'

export const METADATA_KEY: LogKey = { topicId: 0, partition: 0, lane: 0 }
const READ_BYTES = 256 * 1024

export interface MetadataLogOptions {
  readonly memory: Memory
  readonly clock: Clock
  readonly term: number
}

interface Proposal {
  readonly command: MetadataCommand
  readonly index: number
  readonly resolve: (command: MetadataCommand) => void
  readonly reject: (error: unknown) => void
}

/** What a checkpoint of the metadata log carries: the state after every command before `nextOffset`. */
class CheckpointedState implements LogState {
  /** Every command in the log is applied here, flushed or not: checkpoints speak of the log as it is filled. */
  readonly proposed = new MetadataState()
  nextOffset = 0

  encodeState(): Uint8Array {
    return encodeMessagePack({ nextOffset: this.nextOffset, ...this.proposed.image() })
  }

  restoreState(state: Uint8Array | null): void {
    this.nextOffset = 0
    if (state === null) {
      this.proposed.restore(null)
      return
    }
    const fields = decodeFields(state)
    this.proposed.restore(decodeImage(fields))
    if (typeof fields.nextOffset !== 'number') throw new ProtocolError('INVALID_REQUEST', 'a checkpoint without offset')
    this.nextOffset = fields.nextOffset
  }

  /** Commands stand in bodies, which replay does not show; they are read once the log is open. */
  replay(): void {}
}

export class MetadataLog {
  /** What is committed: the only state anybody acts on. */
  readonly state = new MetadataState()
  /** Called for each command once it is applied to `state`. */
  onApplied: (command: MetadataCommand) => void = () => {}
  readonly #log: PartitionLog
  readonly #checkpointed: CheckpointedState
  readonly #options: MetadataLogOptions
  readonly #proposals = new Fifo<Proposal>()
  #version: number
  #lastAppendTime = 0

  private constructor(log: PartitionLog, checkpointed: CheckpointedState, options: MetadataLogOptions) {
    this.#log = log
    this.#checkpointed = checkpointed
    this.#options = options
    this.#version = log.filled.index
    this.state.restore(checkpointed.proposed.image())
    log.onAdvance = () => this.#advance()
  }

  /** @throws StorageError; ProtocolError when the log was written by a newer version. */
  static async open(store: LogStore, options: MetadataLogOptions): Promise<MetadataLog> {
    const checkpointed = new CheckpointedState()
    const log = await store.open(METADATA_KEY, checkpointed)
    await replayCommands(log, checkpointed)
    if (log.flushedIndex < log.filled.index) await log.flush()
    return new MetadataLog(log, checkpointed, options)
  }

  /** Index of the last command applied: the version of the cluster map. */
  get version(): number {
    return this.#version
  }

  get bytesOnDisk(): number {
    return this.#log.bytesOnDisk
  }

  /**
   * Writes a command and resolves once it is flushed and applied.
   * @param judge sees the state with everything before the command applied, and gives the command or throws a refusal.
   * @throws what `judge` throws; StorageError; ProtocolError OVERLOADED.
   */
  async propose(judge: (state: MetadataState) => MetadataCommand): Promise<MetadataCommand> {
    // The command has to be known to see how much room it takes, and to be judged again if that took time.
    let bytes = LOG_PART_BYTES + this.#seal(judge(this.#checkpointed.proposed)).length
    while (!this.#log.hasRoom(bytes)) {
      await new Promise<void>((resolve) => this.#log.onRoom(resolve))
      bytes = LOG_PART_BYTES + this.#seal(judge(this.#checkpointed.proposed)).length
    }
    const command = judge(this.#checkpointed.proposed)
    return new Promise((resolve, reject) => {
      const index = this.#append(command)
      this.#proposals.push({ command, index, resolve, reject })
    })
  }

  #seal(command: MetadataCommand): Uint8Array {
    return sealCommand(command, this.#log.filled.index + 1, this.#options.clock.wallMs())
  }

  /** @returns the index of the command. @throws StorageError, ProtocolError OVERLOADED. */
  #append(command: MetadataCommand): number {
    if (this.#log.failure !== null) throw this.#log.failure
    const { memory, clock, term } = this.#options
    const batch = this.#seal(command)
    const block = memory.allocate(batch.length)
    if (block === null) throw new ProtocolError('OVERLOADED', 'no memory for a metadata command')
    try {
      block.bytes.set(batch)
      const { index: lastIndex, nextOffset } = this.#log.filled
      const appendTime = Math.max(clock.wallMs(), this.#lastAppendTime)
      const stamp = { term, baseOffset: nextOffset, index: lastIndex + 1, appendTime }
      if (!this.#log.append(block, 0, readBatchHeader(block.view, 0), stamp, 'flush')) {
        throw new AssertionError('the checksum of a batch just sealed does not hold')
      }
      this.#lastAppendTime = appendTime
      this.#checkpointed.proposed.apply(command)
      this.#checkpointed.nextOffset = this.#log.filled.nextOffset
      return stamp.index
    } finally {
      memory.release(block)
    }
  }

  #advance(): void {
    const log = this.#log
    let proposal = this.#proposals.peek()
    while (proposal !== undefined && proposal.index <= log.flushedIndex) {
      this.#proposals.shift()
      this.state.apply(proposal.command)
      this.#version = proposal.index
      this.onApplied(proposal.command)
      proposal.resolve(proposal.command)
      proposal = this.#proposals.peek()
    }
    if (log.failure !== null) {
      for (const failed of this.#proposals.drain()) failed.reject(log.failure)
    }
  }
}

/** Applies the commands behind the checkpoint. */
async function replayCommands(log: PartitionLog, checkpointed: CheckpointedState): Promise<void> {
  while (checkpointed.nextOffset < log.filled.nextOffset) {
    const read = await log.read(checkpointed.nextOffset, READ_BYTES, log.filled.index)
    if (read.batchCount === 0) throw new StorageError('DAMAGED', 'the metadata log ends before its last command')
    const bytes = bytesOf(read)
    read.release()
    for (const batch of loggedBatches(bytes, crc32)) {
      if (batch.baseOffset < checkpointed.nextOffset) continue
      checkpointed.proposed.apply(commandOfBatch(bytes, batch))
    }
    checkpointed.nextOffset = read.nextOffset
  }
}

function bytesOf(read: LogRead): Uint8Array {
  const bytes = new Uint8Array(read.byteLength)
  let at = 0
  for (const piece of read.pieces) {
    bytes.set(piece.block.bytes.subarray(piece.offset, piece.offset + piece.length), at)
    at += piece.length
  }
  return bytes
}
