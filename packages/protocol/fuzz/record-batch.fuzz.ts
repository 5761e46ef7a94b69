// Fuzzes what reads batches: header, records and log parts of damaged bytes are refused with a ProtocolError or read
// within their bounds, the check at ingest takes exactly what a consumer can read, and what was read builds again.
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  checkRecords,
  crc32,
  LOG_PART_BYTES,
  loggedBatches,
  ProtocolError,
  RecordReader,
  SeededRandom,
  writeLogPart,
} from '@millrace/protocol'
import {
  buildBatch,
  buildSampleBatch,
  concat,
  headerOf,
  logged,
  SAMPLE_BATCHES,
  type SampleRecord,
  viewOf,
} from '../test/samples.js'
import { mutate } from './mutate.js'

export const name = 'record-batch'

const SAMPLES = SAMPLE_BATCHES.map(buildSampleBatch)

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')

/** The result of `work`, or the code of the ProtocolError it threw. */
function outcome<T>(work: () => T): { value: T } | { code: string } {
  try {
    return { value: work() }
  } catch (error) {
    if (error instanceof ProtocolError) return { code: error.code }
    throw error
  }
}

function randomRecords(random: SeededRandom): SampleRecord[] {
  const bytes = (): Uint8Array | null =>
    random.oneIn(4) ? null : random.bytes(random.below(random.oneIn(8) ? 300 : 20))
  return Array.from({ length: 1 + random.below(6) }, () => ({
    key: bytes(),
    value: bytes(),
    ...(random.oneIn(3)
      ? { headers: Array.from({ length: random.below(4) }, () => [`h${random.below(9)}`, bytes()] as const) }
      : {}),
    timestamp: random.oneIn(8) ? random.u32() : 1_735_689_600_000 + random.below(1000),
  }))
}

/** Reads the records of the batch that begins at `at`, and looks at every range and number on the way. */
function readAll(bytes: Uint8Array, at: number, header: BatchHeader): SampleRecord[] {
  const { recordCount, lastOffsetDelta } = header
  const batchEnd = at + header.length
  const reader = new RecordReader(bytes, at + BATCH_HEADER_BYTES, batchEnd, recordCount, lastOffsetDelta, header)
  const records: SampleRecord[] = []
  let end = at + BATCH_HEADER_BYTES
  while (reader.next()) {
    for (const [from, to] of [
      [reader.keyStart, reader.keyEnd],
      [reader.valueStart, reader.valueEnd],
    ] as const) {
      if (from === -1 && to === -1) continue
      if (from < end || to < from || to > batchEnd) throw new Error(`a field from ${from} to ${to}`)
      end = to
    }
    if (reader.offsetDelta > lastOffsetDelta) throw new Error(`an offset delta of ${reader.offsetDelta}`)
    const timestamp = header.baseTimestamp + reader.timestampDelta
    if (timestamp < 0 || timestamp > header.lastTimestamp) throw new Error(`a timestamp of ${timestamp}`)
    const headers = reader.hasHeaders ? { headers: reader.headers() } : {}
    records.push({ key: reader.key(), value: reader.value(), ...headers, timestamp })
    if (records.length > recordCount) throw new Error('more records than announced')
  }
  return records
}

/** The batch stands in the middle of other bytes, as in a frame or in the log. */
function tryRecords(random: SeededRandom, batch: Uint8Array): void {
  if (batch.length < BATCH_HEADER_BYTES) return
  const found = outcome(() => headerOf(batch))
  if ('code' in found) return
  const header = found.value
  if (header.length !== batch.length || header.codec !== 'none') return
  const at = random.below(8)
  const memory = concat([random.bytes(at), batch, random.oneIn(2) ? batch : random.bytes(random.below(40))])
  const { recordCount, lastOffsetDelta } = header
  const read = outcome(() => readAll(memory, at, header))
  const checked = outcome(() => {
    checkRecords(memory, at + BATCH_HEADER_BYTES, at + batch.length, recordCount, lastOffsetDelta, header)
  })
  const codes = [read, checked].map((result) => ('code' in result ? result.code : 'fine'))
  if (codes[0] !== codes[1]) throw new Error(`a consumer says ${codes[0]}, the check at ingest ${codes[1]}`)
  if ('code' in read || lastOffsetDelta !== recordCount - 1) return
  const rebuilt = buildBatch(read.value)
  const again = readAll(rebuilt, 0, headerOf(rebuilt))
  if (JSON.stringify(plain(again)) !== JSON.stringify(plain(read.value))) throw new Error('records come back different')
}

const plain = (records: readonly SampleRecord[]): unknown =>
  records.map(({ key, value, headers, timestamp }) => [
    key && hex(key),
    value && hex(value),
    headers?.map(([headerName, bytes]) => [headerName, bytes && hex(bytes)]),
    timestamp,
  ])

/** A body whose header fits it again, so that damage is met by the reader of records and not by the header's rules. */
function repairHeader(batch: Uint8Array): void {
  if (batch.length < BATCH_HEADER_BYTES) return
  const view = viewOf(batch)
  view.setUint32(4, batch.length, true)
  view.setUint32(60, batch.length - BATCH_HEADER_BYTES, true)
  if (view.getUint8(11) === 0) view.setUint32(56, batch.length - BATCH_HEADER_BYTES, true)
}

function tryLog(random: SeededRandom, bytes: Uint8Array): void {
  if (random.oneIn(2) && bytes.length >= LOG_PART_BYTES) {
    // A checksum that holds over whatever the log part says.
    viewOf(bytes).setUint32(0, crc32(bytes.subarray(4, LOG_PART_BYTES), 0), true)
  }
  const found = outcome(() => [...loggedBatches(bytes, crc32)])
  if ('code' in found) {
    if (found.code !== 'CORRUPT_BATCH') throw new Error(`${found.code} instead of CORRUPT_BATCH`)
    return
  }
  let at = 0
  for (const batch of found.value) {
    if (batch.clientStart !== at + LOG_PART_BYTES || batch.end > bytes.length) throw new Error('a batch out of place')
    if (!Number.isSafeInteger(batch.baseOffset + 65_535)) throw new Error('an offset above 2^53')
    const copy = new Uint8Array(LOG_PART_BYTES)
    writeLogPart(copy, viewOf(copy), 0, batch, crc32)
    if (hex(copy) !== hex(bytes.subarray(at, at + LOG_PART_BYTES))) throw new Error('a log part comes back different')
    at = batch.end
  }
  if (at !== bytes.length) throw new Error('bytes are left')
}

export function run({ seed, iterations }: { seed: number; iterations: number }): number {
  const random = new SeededRandom(seed)
  for (let i = 0; i < iterations; i++) {
    const fresh = random.oneIn(2) ? SAMPLES[random.below(SAMPLES.length)]! : buildBatch(randomRecords(random))
    const batch = mutate(random, fresh, SAMPLES)
    if (!random.oneIn(4)) repairHeader(batch)
    const log = mutate(random, logged(fresh, { term: 1, baseOffset: random.u32(), index: 1, appendTime: 0 }), SAMPLES)
    try {
      tryRecords(random, batch)
      tryLog(random, log)
    } catch (cause) {
      throw new Error(`batch ${hex(batch)}, log ${hex(log)}`, { cause })
    }
  }
  return 2 * iterations
}
