// Opens all logs of one volume: scans the slots, says which logs there are, and opens, drops and closes them.
import { assert } from '@millrace/protocol'
import type { Environment, Volume } from '../environment.js'
import { APPEND_MEMORY_SHARE, FRAME_MEMORY_SHARE, SPARE_MEMORY_SHARE } from '../limits.js'
import { AppendMemory } from '../memory/append-memory.js'
import { PagePool } from '../memory/page-pool.js'
import { Flusher } from './flusher.js'
import { Latch } from './latch.js'
import type { LogStore, LogStoreOptions } from './log-store.js'
import { Room } from './room.js'
import type { Slot } from './slot.js'
import { MAX_CLUSTER_ID_BYTES } from './slot-header.js'
import { SlotPool } from './slot-pool.js'
import type { ScannedSlot } from './slot-scan.js'
import type { StorageContext } from './storage-context.js'
import { StorageCounters } from './storage-counters.js'
import { type StorageLimits, storageLimits } from './storage-limits.js'
import { StoredLogs } from './stored-logs.js'
import { VolumeRecord } from './volume-record.js'
import { scanVolume } from './volume-scan.js'

/**
 * @param limits replace some of the defaults.
 * @throws ForeignSlotError when the volume holds slots of another cluster, node, disk or format; DiskError.
 */
export async function openLogStore(
  environment: Environment,
  volume: Volume,
  options: LogStoreOptions,
  limits: Partial<StorageLimits> = {},
): Promise<LogStore> {
  const startedMs = environment.clock.monotonicMs()
  assert(/^[0-9a-f]{32}$/.test(options.diskId), 'a disk id has 32 hexadecimal digits')
  assert(new TextEncoder().encode(options.clusterId).length <= MAX_CLUSTER_ID_BYTES, 'a cluster id is at most 64 bytes')
  const context = makeContext(environment, volume, options, limitsWithin(environment.memory.budgetBytes, limits))
  const record = await VolumeRecord.load(volume)
  const scanned = await scanVolume(environment, volume, context.identity, context.limits.maxUnflushedBytes)
  const store = new StoredLogs(context, record, startedMs)
  for (const slot of scanned) await takeIn(context, store, slot)
  await store.begin()
  return store
}

/** Append memory takes its share of a small budget, the page pool whatever nobody else needs. */
function limitsWithin(budgetBytes: number, replaced: Partial<StorageLimits>): StorageLimits {
  const limits = storageLimits(replaced)
  const { maxGroupBytes, extentBytes, frameBytes } = limits
  const appendShare = Math.max(2 * (maxGroupBytes + extentBytes), Math.floor(budgetBytes * APPEND_MEMORY_SHARE))
  const appendMemoryBytes = Math.min(limits.appendMemoryBytes, appendShare)
  const restBytes = Math.floor(budgetBytes * (1 - FRAME_MEMORY_SHARE - SPARE_MEMORY_SHARE)) - appendMemoryBytes
  const cacheBytes = Math.max(2 * maxGroupBytes + 4 * frameBytes, restBytes)
  return storageLimits({
    ...limits,
    appendMemoryBytes,
    cacheBytes: Math.min(replaced.cacheBytes ?? cacheBytes, cacheBytes),
  })
}

function makeContext(
  environment: Environment,
  volume: Volume,
  options: LogStoreOptions,
  limits: StorageLimits,
): StorageContext {
  const { clock, memory, log } = environment
  const counters = new StorageCounters()
  const latch = new Latch()
  const room = new Room(clock)
  latch.listen(({ message, cause }) => {
    log.error(
      { cause },
      `${message}; reads go on: repair the disk, then start the broker again, which verifies the logs`,
    )
  })
  const { clusterId, nodeId, diskId } = options
  const identity = { clusterId, nodeId, diskId }
  const appendMemory = new AppendMemory(memory, limits.appendMemoryBytes)
  const frames = new PagePool(memory, clock, limits.frameBytes, limits.cacheBytes)
  const flusher = new Flusher(volume, clock, latch, limits, counters)
  const flush = (slot: Slot): Promise<void> => {
    flusher.wrote(slot)
    return flusher.flushed()
  }
  appendMemory.reclaim = () => frames.reclaim()
  appendMemory.onReleased = () => room.wake()
  return {
    environment,
    volume,
    identity,
    session: environment.random.uint32(),
    limits,
    counters,
    latch,
    room,
    pool: new SlotPool({ volume, memory, clock, log, latch, limits, identity, counters, flush }),
    flusher,
    appendMemory,
    frames,
  }
}

async function takeIn({ pool, environment }: StorageContext, store: StoredLogs, scanned: ScannedSlot): Promise<void> {
  switch (scanned.kind) {
    case 'free':
      pool.found(scanned.slot.id)
      return pool.add(scanned.slot)
    case 'owned':
      pool.found(scanned.slot.id)
      pool.slots.add(scanned.slot)
      return store.addFound(scanned)
    case 'unfinished':
      pool.found(scanned.id)
      // Its zeros may be read from a volatile cache: were they lost once the drop that they belong to is forgotten, the
      // slot would be the dropped log's again.
      await scanned.file.sync()
      await scanned.file.close()
      return pool.foundUnfinished(scanned.id)
    case 'unreadable':
      pool.found(scanned.id)
      if (scanned.refused) store.recovery.unreadable.push(scanned.file.name)
      // Zeros may have taken its headers, and a power cut may bring them back: flushed for the same reason.
      else await scanned.file.sync()
      await scanned.file.close()
      environment.log.error(
        { file: scanned.file.name, reason: scanned.reason },
        'a segment file cannot be read and is left as it is; logs that miss it are reported as damaged',
      )
  }
}
