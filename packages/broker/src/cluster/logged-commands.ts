// The commands that stand in a metadata log: what a checkpoint does not have yet is read from there.
import { crc32, loggedBatches, readBatchHeader } from '@millrace/protocol'
import { type PartitionLog, StorageError } from '../storage/log-store.js'
import { bytesOf } from '../storage/read-bytes.js'
import { commandOf } from './command-batch.js'
import type { MetadataCommand } from './metadata-command.js'

const READ_BYTES = 256 * 1024

/** A command in the log, committed or not. */
export interface LoggedCommand {
  readonly command: MetadataCommand
  readonly index: number
  /** Offset after it. */
  readonly nextOffset: number
}

/** The commands from an offset on. @throws StorageError, ProtocolError when a newer version wrote the log. */
export async function readCommands(log: PartitionLog, offset: number): Promise<readonly LoggedCommand[]> {
  const commands: LoggedCommand[] = []
  let nextOffset = offset
  while (nextOffset < log.filled.nextOffset) {
    const read = await log.read(nextOffset, READ_BYTES, log.filled.index)
    if (read.batchCount === 0) throw new StorageError('DAMAGED', 'the metadata log ends before its last command')
    const bytes = bytesOf(read)
    read.release()
    for (const { baseOffset, clientStart, end, index } of loggedBatches(bytes, crc32)) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      if (baseOffset < nextOffset || readBatchHeader(view, clientStart).control) continue
      commands.push({ command: commandOf(bytes, clientStart, end), index, nextOffset: baseOffset + 1 })
    }
    nextOffset = read.nextOffset
  }
  return commands
}
