// The disk as the broker will use it: opened like a data directory, written, flushed and timed.
import { BLOCK_BYTES, type Environment, type Volume } from '../environment.js'
import type { DoctorFinding } from './findings.js'

const FLUSHES = 64
const SCRATCH_BYTES = 1024 * 1024
const SCRATCH_NAME = 'probe'
/** Below this a broker soon has to refuse records. */
const LITTLE_SPACE_BYTES = 1024 * 1024 * 1024
/** Flushes of a disk without a fast write cache take this long. */
const SLOW_FLUSH_MS = 10
/** No disk is this fast: somebody acknowledges flushes without doing them. */
const UNBELIEVABLE_FLUSH_MS = 0.01

export interface FlushTimes {
  readonly medianMs: number
  readonly p99Ms: number
}

export interface DiskReport {
  readonly findings: readonly DoctorFinding[]
  readonly flush: FlushTimes
}

/**
 * @param directory a scratch directory on the file system in question, removed by the caller.
 * @param fileSystem its name, such as `ext4`; null when unknown.
 * @throws DiskError when it cannot be opened or written.
 */
export async function examineDisk(
  environment: Environment,
  directory: string,
  fileSystem: string | null,
): Promise<DiskReport> {
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  try {
    const flush = await timeFlushes(environment, volume)
    const space = await volume.space()
    const findings = [
      examineSpace(space.freeBytes, space.totalBytes, fileSystem),
      examineDirect(volume),
      examineFlush(volume, flush, fileSystem),
    ]
    return { findings, flush }
  } finally {
    await volume.close()
  }
}

async function timeFlushes({ clock, memory }: Environment, volume: Volume): Promise<FlushTimes> {
  const block = memory.allocate(SCRATCH_BYTES)
  if (block === null) throw new RangeError('the doctor finds no memory for a block')
  try {
    block.bytes.fill(0x4d)
    const file = await volume.open(SCRATCH_NAME, { create: true })
    await file.write(0, block, 0, SCRATCH_BYTES)
    await file.sync()
    const times: number[] = []
    for (let at = 0; at < FLUSHES; at++) {
      const begin = clock.monotonicMs()
      await file.write((at * BLOCK_BYTES) % SCRATCH_BYTES, block, 0, BLOCK_BYTES)
      const written = clock.monotonicMs()
      await volume.flush([file])
      times.push(clock.monotonicMs() - Math.max(begin, written))
    }
    await file.close()
    await volume.remove(SCRATCH_NAME)
    times.sort((a, b) => a - b)
    return { medianMs: times[FLUSHES >> 1]!, p99Ms: times[Math.floor(FLUSHES * 0.99)]! }
  } finally {
    memory.release(block)
  }
}

function examineSpace(freeBytes: number, totalBytes: number, fileSystem: string | null): DoctorFinding {
  const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(1)
  const little = freeBytes < LITTLE_SPACE_BYTES
  return {
    subject: 'disk',
    state: little ? 'limited' : 'good',
    finding: `${fileSystem ?? 'unknown file system'}, ${gigabytes(freeBytes)} of ${gigabytes(totalBytes)} GB free`,
    hint: little ? 'free some space: a broker that finds none refuses records' : null,
  }
}

function examineDirect(volume: Volume): DoctorFinding {
  const finding = volume.direct ? 'works: no second copy in the page cache' : (volume.note ?? 'not to be had here')
  return {
    subject: 'direct I/O',
    state: volume.direct ? 'good' : 'limited',
    finding,
    hint: volume.direct ? null : 'put --data on ext4 or XFS; until then data is buffered by the kernel, and flushed',
  }
}

function examineFlush(volume: Volume, { medianMs, p99Ms }: FlushTimes, fileSystem: string | null): DoctorFinding {
  const finding = `by ${volume.flushMethod}, median ${medianMs.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms`
  if (fileSystem === 'tmpfs' || medianMs < UNBELIEVABLE_FLUSH_MS) {
    return {
      subject: 'flush',
      state: 'bad',
      finding: `${finding}: nothing reaches a disk`,
      hint: 'put --data on a real disk: acknowledged records would not survive a power cut',
    }
  }
  const slow = medianMs > SLOW_FLUSH_MS
  return {
    subject: 'flush',
    state: slow ? 'limited' : 'good',
    finding,
    hint: slow ? 'durable throughput is group size by flush time: use flash with power loss protection' : null,
  }
}
