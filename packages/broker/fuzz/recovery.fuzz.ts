// Arbitrary damage to the image of a log store: it opens and serves only what was appended, or says why it does not.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, loggedBatches, ProtocolError } from '@millrace/protocol'
import { DiskError } from '#src/environment.js'
import { ForeignSlotError, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { CrashMemory, crashEnvironment } from '../sim/crash/crash-environment.js'
import { turn } from '../sim/crash/log-driver.js'
import { TracedState } from '../sim/crash/log-history.js'
import { PAGE_BYTES, type PageFile, type VolumeImage } from '../sim/crash/page-image.js'
import { AT_ONCE, TracedVolume } from '../sim/crash/traced-volume.js'
import { CRASH_LIMITS, IDENTITY, keyName, type Step, Workload } from '../sim/crash/workload.js'
import { SeededRandom } from '../sim/random.js'

export const name = 'recovery'

/** Every batch a log was ever given, by the bytes of its client part. */
type Given = ReadonlyMap<string, ReadonlySet<string>>

interface Sample {
  readonly image: VolumeImage
  readonly given: Given
}

const memory = new CrashMemory(256 * 1024 * 1024, false)

/** Damages one image after another and opens each. Returns how many were tried; throws on a finding. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(`recovery/${seed}`)
  let sample = await drawSample(random.split('0'))
  for (let i = 0; i < iterations; i++) {
    if (i % 50 === 49) sample = await drawSample(random.split(String(i)))
    const image = sample.image.copy()
    for (let damages = random.integer(1, 4); damages > 0; damages--) damage(image, random)
    await openAndRead(image, sample.given, random)
  }
  return iterations
}

async function drawSample(random: SeededRandom): Promise<Sample> {
  const steps: Step[] = []
  const bytes = random.pick([200, 3000, 20_000])
  for (let i = random.integer(5, 40); i > 0; i--) {
    const log = random.integer(0, 2)
    const size = Math.floor(random.logBetween(1, bytes))
    steps.push({ kind: 'append', log, bytes: size, mode: random.pick(['flush', 'write'] as const) })
    if (random.chance(0.3)) steps.push({ kind: 'settle', log })
    if (random.chance(0.02)) steps.push({ kind: 'drop', log })
  }
  for (let log = 0; log < 3; log++) steps.push({ kind: 'flush', log })
  if (random.chance(0.5)) steps.push({ kind: 'close' })
  const { image, logs } = await new Workload(random).run(3, steps)
  const given = new Map<string, Set<string>>()
  for (const [key, { history }] of logs) {
    const hashes = history.map((operation) => (operation.kind === 'append' ? hash(operation.batch.bytes) : ''))
    given.set(key, new Set(hashes))
  }
  return { image: image.copy(), given }
}

interface Victim {
  readonly image: VolumeImage
  readonly names: readonly string[]
  readonly file: PageFile
  readonly other: PageFile
  /** A page of the file. */
  readonly number: number
}

/** What a disk, a clumsy hand or a forger may do to the files. */
const DAMAGES: readonly ((victim: Victim, random: SeededRandom) => void)[] = [
  ({ file, number }, random) =>
    change(file, number, (page) => {
      page[random.integer(0, 300)]! ^= 1 << random.integer(0, 7)
    }),
  ({ file, number }, random) =>
    change(file, number, (page) => random.fill(page.subarray(random.integer(0, 7) * 512).subarray(0, 512))),
  ({ file, number }) => change(file, number, (page) => page.fill(0)),
  ({ file, number, other }, random) => file.setPage(number, other.page(random.integer(0, 12))),
  ({ file }, random) => {
    file.size = random.pick([0, 100, 4096, 16_384, 20_480, Math.max(0, file.size - 4096), file.size + 8192])
  },
  ({ image, names }, random) => {
    image.files.delete(random.pick(names))
  },
  ({ image, names, other }, random) => {
    image.files.set(random.pick(names), other.copy())
  },
  ({ image, file }, random) => {
    image.files.set(`slot-${random.integer(0, 30).toString(16).padStart(8, '0')}`, file.copy())
  },
  ({ image }, random) => smallFile(image, random),
  // A field that lies, with a checksum that holds.
  ({ file, number }, random) =>
    change(file, number, (page) => {
      const at = random.integer(1, 40) * 4
      const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
      view.setUint32(at, random.pick([0, 1, 0xffffffff, random.uint32(), page[at]! + 1]), true)
      const covered = number < 4 ? 224 : 96
      view.setUint32(0, crc32(page.subarray(4, covered)), true)
    }),
]

function damage(image: VolumeImage, random: SeededRandom): void {
  const names = [...image.files.keys()]
  if (names.length === 0) return
  const file = image.files.get(random.pick(names))!
  const number = random.chance(0.5) ? random.integer(0, 8) : random.integer(0, Math.max(0, file.pages.length - 1))
  const other = image.files.get(random.pick(names))!
  random.pick(DAMAGES)({ image, names, file, other, number }, random)
}

function smallFile(image: VolumeImage, random: SeededRandom): void {
  const bytes = (image.small.get('log-store') ?? new Uint8Array(14)).slice()
  bytes[random.integer(0, bytes.length - 1)]! ^= 1 << random.integer(0, 7)
  if (random.chance(0.3)) image.small.delete('log-store')
  else image.small.set('log-store', random.chance(0.5) ? bytes : bytes.subarray(0, random.integer(0, bytes.length)))
}

function change(file: PageFile, number: number, edit: (page: Uint8Array) => void): void {
  const page = Uint8Array.from(file.page(number))
  edit(page)
  file.setPage(number, page)
  if (page.length !== PAGE_BYTES) throw new Error('a page keeps its size')
}

async function openAndRead(image: VolumeImage, given: Given, random: SeededRandom): Promise<void> {
  memory.reset()
  const environment = crashEnvironment(new SeededRandom('fuzz'), memory)
  const volume = new TracedVolume(image, null, AT_ONCE)
  try {
    const store = await openLogStore(environment, volume, IDENTITY, CRASH_LIMITS)
    for (const key of store.found) {
      const state = new AnyState()
      const log = await store.open(key, state)
      await readEverything(log, given.get(keyName(key)) ?? new Set(), random)
    }
    await turn()
    await store.close()
  } catch (error) {
    if (!isTyped(error)) throw error
  }
}

/** States that do not fit are the owner's matter: whatever its bytes are, they were under a checksum. */
class AnyState extends TracedState {
  override restoreState(): void {
    this.index = 0
  }
  override replay(): void {}
  override encodeState(): Uint8Array {
    return new Uint8Array(8)
  }
}

async function readEverything(log: PartitionLog, given: ReadonlySet<string>, random: SeededRandom): Promise<void> {
  try {
    for (let offset = 0; offset < log.filled.nextOffset; ) {
      const read = await log.read(offset, random.pick([1, 5000, 60_000]), log.filled.index)
      const bytes = Buffer.concat(
        read.pieces.map(({ block, offset: at, length }) => block.bytes.subarray(at, at + length)),
      )
      read.release()
      if (read.batchCount === 0 || read.nextOffset <= offset) break
      for (const { clientStart, end } of loggedBatches(bytes, (part, seed) => crc32(part, seed))) {
        if (given.has(hash(bytes.subarray(clientStart, end)))) continue
        throw new Error(
          `${keyName(log.key)} serves a batch of ${end - clientStart - LOG_PART_BYTES} bytes nobody gave it`,
        )
      }
      offset = read.nextOffset
    }
    await log.offsetForTime(random.integer(0, 2_000_000), log.filled.index)
    await log.termAt(random.integer(0, 50))
  } catch (error) {
    if (!isTyped(error)) throw error
  }
}

function isTyped(error: unknown): boolean {
  return (
    error instanceof StorageError ||
    error instanceof ForeignSlotError ||
    error instanceof DiskError ||
    error instanceof ProtocolError
  )
}

function hash(bytes: Uint8Array): string {
  return `${bytes.length}/${crc32(bytes)}`
}
