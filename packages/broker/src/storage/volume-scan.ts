// Looks at every slot file of the volume at start, many at a time.
import type { Block, Environment, Volume } from '../environment.js'
import { READ_RETRIES_PER_SCAN } from '../limits.js'
import { PatientReads } from './patient-reads.js'
import { slotIdOf } from './slot.js'
import type { SlotIdentity } from './slot-header.js'
import { SCAN_BYTES, type ScannedSlot, scanSlot } from './slot-scan.js'

const SCANS_AT_ONCE = 64

/**
 * @returns every slot, in the order of their ids.
 * @throws ForeignSlotError, DiskError; every file is closed again then.
 */
export async function scanVolume(
  environment: Environment,
  volume: Volume,
  identity: SlotIdentity,
  maxUnflushedBytes: number,
): Promise<ScannedSlot[]> {
  const names = (await volume.list()).filter(({ name }) => slotIdOf(name) !== null)
  names.sort((a, b) => (a.name < b.name ? -1 : 1))
  const scanned: ScannedSlot[] = []
  const reads = new PatientReads(environment.clock, READ_RETRIES_PER_SCAN)
  let next = 0
  const scanSome = async (block: Block): Promise<void> => {
    while (next < names.length) {
      const at = next++
      const { name } = names[at]!
      const file = await volume.open(name)
      scanned[at] = await scanSlot(slotIdOf(name)!, file, names[at]!, block, identity, maxUnflushedBytes, reads).catch(
        async (cause: unknown) => {
          await file.close()
          throw cause
        },
      )
    }
  }
  const results = await Promise.allSettled(
    blocksFor(environment, names.length).map((block) =>
      scanSome(block).finally(() => {
        // No scan begins after one has failed.
        environment.memory.release(block)
      }),
    ),
  )
  const failed = results.find((result) => result.status === 'rejected')
  if (failed === undefined) return scanned
  await Promise.all(scanned.map((slot) => fileOf(slot).close()))
  throw failed.reason
}

function fileOf(scanned: ScannedSlot) {
  return scanned.kind === 'owned' || scanned.kind === 'free' ? scanned.slot.file : scanned.file
}

function blocksFor({ memory }: Environment, files: number): Block[] {
  const blocks: Block[] = []
  while (blocks.length < Math.min(SCANS_AT_ONCE, files)) {
    const block = memory.allocate(SCAN_BYTES)
    if (block === null) break
    blocks.push(block)
  }
  if (blocks.length === 0 && files > 0) throw new Error('no memory is left to open the log store with')
  return blocks
}
