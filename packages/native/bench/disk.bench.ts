// What the disk gives to a ring: O_DIRECT writes over blocks written before, four in flight, memory registered or not.
import { constants, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Arena, closeDescriptor, openFile, probeKernel, Ring } from '@millrace/native'
import { type BenchOptions, rounded } from './measure.js'

export const name = 'native-disk'

const SIZES_BYTES = [4096, 64 * 1024, 256 * 1024, 1024 * 1024]
const IN_FLIGHT = 4
const MIB = 1024 * 1024

interface Row {
  readonly name: string
  readonly mbPerSecond: number
  readonly operationsPerSecond: number
  readonly cpuSecondsPerGb: number
}

export function run({ tiny }: BenchOptions): Promise<object> {
  const { ring: finding } = probeKernel()
  if (!finding.available) return Promise.resolve({ refused: finding.reason })
  const folder = mkdtempSync(join(process.env.MILLRACE_TEST_DIRECTORY ?? tmpdir(), 'millrace-disk-'))
  const fileBytes = (tiny ? 4 : 512) * MIB
  try {
    const results = [true, false].flatMap((registered) =>
      SIZES_BYTES.map((size) => writeFor(tiny ? 10 : 1500, join(folder, 'file'), fileBytes, size, registered)),
    )
    return Promise.resolve({ results, checksum: results.length })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function writeFor(limitMs: number, path: string, fileBytes: number, size: number, registered: boolean): Row {
  const ring = new Ring({ entries: 64, completions: 256 })
  const arena = new Arena(IN_FLIGHT * MIB, ring)
  if (registered) ring.registerBufferTable(1)
  const bufferIndex = registered && ring.registerBuffer(0, arena.handle) >= 0 ? 0 : -1
  const descriptor = openFile(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT)
  new Uint8Array(arena.buffer).fill(0x5a)
  let position = 0
  let written = 0
  let inFlight = 0
  let deadlineMs = Number.POSITIVE_INFINITY
  const write = (slot: number, bytes: number) => {
    ring.write(descriptor, arena.address + slot * MIB, bytes, position, bufferIndex, slot, 0)
    position = (position + bytes) % fileBytes
    inFlight++
  }
  const sink = {
    complete(slot: number, _: number, result: number) {
      if (result !== size) throw new Error(`a write of ${size} bytes ended with ${result}`)
      written += result
      inFlight--
      if (performance.now() < deadlineMs) write(slot, size)
    },
  }
  const turnUntilIdle = () => {
    while (inFlight > 0) {
      ring.submit(1)
      ring.reap(sink)
    }
  }
  // Once through, so that every block has been written before it is measured.
  const firstPass = { complete: () => void inFlight-- }
  for (let at = 0; at < fileBytes; at += MIB) {
    write(0, MIB)
    ring.submit(1)
    ring.reap(firstPass)
  }
  position = 0
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  deadlineMs = startedMs + limitMs
  for (let slot = 0; slot < IN_FLIGHT; slot++) write(slot, size)
  turnUntilIdle()
  const seconds = (performance.now() - startedMs) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  closeDescriptor(descriptor)
  ring.close(1000)
  arena.close()
  return {
    name: `${size / 1024} KiB, ${registered ? 'registered' : 'unregistered'} memory`,
    mbPerSecond: rounded(written / seconds / 1e6),
    operationsPerSecond: rounded(written / size / seconds),
    cpuSecondsPerGb: rounded((user + system) / 1e6 / (written / 1e9)),
  }
}
