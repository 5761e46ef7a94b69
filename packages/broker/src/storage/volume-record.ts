// What storage remembers of the volume as a whole: whether it was closed in order, since which start of the machine it is
// in use, and which logs are being dropped.
//
//   u32 magic "MRVR", u8 version: 1, u8 flags: bit 0 closed in order, bit 1 there is a vote journal;
//   u32 count of dropped logs; each: u32 topic id, u32 partition, u16 lane;
//   u16 length of the kernel's boot id and that in UTF-8 (absent in old records); then u32 CRC-32 of everything before
import { crc32, ProtocolError, Reader, Writer } from '@millrace/protocol'
import type { Volume } from '../environment.js'
import { keyText } from './group-envelope.js'
import type { LogKey } from './log-store.js'

export const VOLUME_RECORD_NAME = 'log-store'
const MAGIC = 0x5256524d
const VERSION = 1
const MAX_DROPPED = 100_000
const CLOSED_IN_ORDER = 1
const HAS_VOTES = 2

export class VolumeRecord {
  private saving: Promise<void> | null = null
  private next: Promise<void> | null = null

  private constructor(
    private readonly volume: Volume,
    public clean: boolean,
    /** Logs whose slots may still be marked as theirs. */
    readonly dropped: Map<string, LogKey>,
    /** There is a vote journal: when it cannot be found, votes are lost. */
    public hasVotes: boolean,
    /** Of the machine when the store was last opened; null when that is not known. */
    public bootId: string | null,
    /** Whether one was found. */
    readonly exists: boolean,
  ) {}

  /** A record that is missing or damaged says: not closed in order, nothing dropped. That costs time, not data. */
  static async load(volume: Volume): Promise<VolumeRecord> {
    const bytes = await volume.readSmall(VOLUME_RECORD_NAME)
    try {
      if (bytes !== null) return VolumeRecord.decode(volume, bytes)
    } catch (cause) {
      if (!(cause instanceof ProtocolError)) throw cause
    }
    return new VolumeRecord(volume, false, new Map(), false, null, false)
  }

  private static decode(volume: Volume, bytes: Uint8Array): VolumeRecord {
    const reader = new Reader(bytes)
    const content = reader.bytes(Math.max(0, bytes.length - 4))
    if (reader.u32() !== crc32(content, 0)) throw new ProtocolError('CORRUPT_FRAME', 'a bad checksum')
    const fields = new Reader(content)
    if (fields.u32() !== MAGIC || fields.u8() !== VERSION) throw new ProtocolError('CORRUPT_FRAME', 'another format')
    const flags = fields.u8()
    const keys = fields.list(fields.u32(), 10, MAX_DROPPED, (from) => ({
      topicId: from.u32(),
      partition: from.u32(),
      lane: from.u16(),
    }))
    const dropped = new Map(keys.map((key) => [keyText(key), key]))
    const bootId = fields.remaining > 0 ? new TextDecoder().decode(fields.bytes(fields.u16())) : null
    return new VolumeRecord(volume, (flags & CLOSED_IN_ORDER) !== 0, dropped, (flags & HAS_VOTES) !== 0, bootId, true)
  }

  /** Resolves when the record as it is now is durable. Calls made during a save share the next one. @throws DiskError. */
  save(): Promise<void> {
    if (this.saving === null) {
      this.saving = this.write().finally(() => {
        this.saving = null
      })
      return this.saving
    }
    this.next ??= this.saving
      .catch(() => {
        // Whoever asked for that save has been told; this one writes everything again.
      })
      .then(() => {
        this.next = null
        return this.save()
      })
    return this.next
  }

  private async write(): Promise<void> {
    const writer = new Writer(64)
    writer.u32(MAGIC).u8(VERSION)
    writer.u8((this.clean ? CLOSED_IN_ORDER : 0) | (this.hasVotes ? HAS_VOTES : 0)).u32(this.dropped.size)
    for (const { topicId, partition, lane } of this.dropped.values()) writer.u32(topicId).u32(partition).u16(lane)
    const bootId = new TextEncoder().encode(this.bootId ?? '')
    writer.u16(bootId.length).bytes(bootId)
    writer.u32(crc32(writer.written(), 0))
    await this.volume.writeSmall(VOLUME_RECORD_NAME, writer.written())
  }
}
