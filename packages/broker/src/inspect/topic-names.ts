// The names of topics, from the metadata log as it is walked: checkpoints first, then every command behind them.
import { crc32, loggedBatches, ProtocolError, readBatchHeader } from '@millrace/protocol'
import { commandOf } from '../cluster/command-batch.js'
import { METADATA_KEY } from '../cluster/metadata-log.js'
import { decodeImage, MetadataState } from '../cluster/metadata-state.js'
import { decodeFields } from '../message-pack.js'
import { ownerStateOf } from '../replication/group-state.js'
import { decodeCheckpoint } from '../storage/checkpoint.js'
import { ENVELOPE_BYTES, GROUP_KINDS, isCheckpoint } from '../storage/group-envelope.js'
import { indexIntervalOf } from '../storage/slot-layout.js'
import type { WalkedGroup } from './log-walk.js'

export const METADATA_NAME = '(metadata)'

export class TopicNames {
  private readonly state = new MetadataState()
  /** A command or checkpoint of this version could not be read: names may be missing. */
  isIncomplete = false

  nameOf(topicId: number): string | null {
    if (topicId === METADATA_KEY.topicId) return METADATA_NAME
    const topic = this.state.topic(topicId) ?? this.state.dropping().find((dropped) => dropped.topicId === topicId)
    return topic?.name ?? null
  }

  idOf(name: string): number | null {
    return this.state.topicByName(name)?.topicId ?? null
  }

  /** Takes in a group of the metadata log. */
  read(group: WalkedGroup): void {
    const { block, at, envelope } = group
    const content = block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length)
    try {
      if (isCheckpoint(envelope)) this.readCheckpoint(content, group)
      if (envelope.kind !== GROUP_KINDS.batches) return
      for (const { clientStart, end } of loggedBatches(content, crc32)) this.readBatch(content, clientStart, end)
    } catch (cause) {
      if (!(cause instanceof ProtocolError)) throw cause
      this.isIncomplete = true
    }
  }

  private readBatch(content: Uint8Array, start: number, end: number): void {
    const view = new DataView(content.buffer, content.byteOffset, content.byteLength)
    if (!readBatchHeader(view, start).control) this.state.apply(commandOf(content, start, end))
  }

  private readCheckpoint(content: Uint8Array, { segment }: WalkedGroup): void {
    const { state } = decodeCheckpoint(content, indexIntervalOf(segment.slot.byteLength))
    this.state.restore(decodeImage(decodeFields(ownerStateOf(state))))
  }
}
