// What stands in the log of a coordinator: a record for each command. Where the log does not begin at 0 it begins with an
// image of all groups.
import {
  BATCH_HEADER_BYTES,
  crc32,
  loggedBatches,
  ProtocolError,
  RecordReader,
  readBatchHeader,
} from '@millrace/protocol'
import { decodeGroupCommand } from '../groups/group-command.js'
import { GroupsState } from '../groups/groups-state.js'
import { GROUP_LOAD_READ_BYTES } from '../limits.js'
import type { Partition } from '../partition/partition.js'
import { StorageError } from '../storage/log-store.js'
import { bytesOf } from '../storage/read-bytes.js'

export interface LoggedGroups {
  readonly state: GroupsState
  /** Of all commands that were read. */
  readonly byteLength: number
}

/**
 * What everything committed in a log that this node leads comes to, from its start to the high watermark.
 * @throws StorageError; ProtocolError NOT_LEADER, or when a newer version wrote the log.
 */
export async function readGroups(partition: Partition): Promise<LoggedGroups> {
  const state = new GroupsState()
  let byteLength = 0
  let offset = partition.logStartOffset
  let isFirst = true
  const end = partition.highWatermark
  while (offset < end) {
    const read = await partition.read(offset, GROUP_LOAD_READ_BYTES)
    const bytes = bytesOf(read)
    read.release()
    if (read.batchCount === 0)
      throw new StorageError('DAMAGED', 'the log of a coordinator ends before its last command')
    for (const { value, appendTimeMs } of recordsOf(bytes)) {
      const command = decodeGroupCommand(value)
      if (isFirst && offset > 0 && !(command.kind === 'image' && command.image.part === 0)) {
        throw new StorageError('DAMAGED', 'the log of a coordinator does not begin with an image')
      }
      isFirst = false
      byteLength += value.length
      state.apply(command, { appendTimeMs })
    }
    offset = read.nextOffset
  }
  return { state, byteLength }
}

function* recordsOf(bytes: Uint8Array): Generator<{ readonly value: Uint8Array; readonly appendTimeMs: number }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (const { clientStart, end, appendTime } of loggedBatches(bytes, crc32)) {
    const { control, recordCount, lastOffsetDelta } = readBatchHeader(view, clientStart)
    if (control) continue
    const records = new RecordReader(bytes, clientStart + BATCH_HEADER_BYTES, end, recordCount, lastOffsetDelta)
    while (records.next()) {
      const value = records.value()
      if (value === null) throw new ProtocolError('INVALID_BATCH', 'a command of a group without a value')
      yield { value, appendTimeMs: appendTime }
    }
  }
}
