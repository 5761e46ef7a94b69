// The bytes of everything on the wire are what they were: golden files, the registry, the source files and the tables
// of docs/WIRE-FORMAT.md list the same messages. Rewrite the golden files with MILLRACE_REWRITE_GOLDEN=1.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { gunzipSync, crc32 as zlibCrc32 } from 'node:zlib'
import {
  crc32,
  ERROR_TABLE,
  encodeFrame,
  FRAME_HEADER_BYTES,
  MESSAGES,
  murmur2,
  partitionOfKey,
  Reader,
  verifyBatch,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { asSamples, batchFields, logPartFields, splitRecords } from './batch-fields.js'
import { type Field, formatGolden, GOLDEN_FOLDER, goldenText, NotingWriter, parseGolden, REWRITE } from './golden.js'
import {
  buildSampleBatch,
  bytesOf,
  concat,
  headerOf,
  hexBytes,
  logged,
  MESSAGE_SAMPLES,
  type MessageSample,
  SAMPLE_BATCHES,
  SOME_TIME,
  viewOf,
} from './samples.js'

const SOURCES = ['client', 'peer'].map((folder) => new URL(`../src/${folder}/`, import.meta.url))
const PAGE = new URL('../../../docs/WIRE-FORMAT.md', import.meta.url)
const OTHER_FILES = ['batches.hex', 'log-part.hex', 'partitioner.hex', 'checksum.hex']

const fileName = (message: string): string => message.toLowerCase().replaceAll('_', '-')

function frameFields(sample: MessageSample): Field[] {
  const writer = new NotingWriter()
  sample.codec.encode(sample.message, writer)
  const header = new NotingWriter()
  header
    .u32(writer.length + sample.extra.length)
    .u16(sample.codec.kind)
    .u16(0)
    .u32(sample.id)
    .u32(sample.timeMs)
  const names = ['length of the payload', 'kind', 'flags', 'id', 'time in ms']
  const extra =
    sample.extra.length === 0 ? [] : [{ bytes: sample.extra, note: `${sample.extra.length} bytes of batches` }]
  return [
    ...header.fields.map(({ bytes, note }, i) => ({ bytes, note: `${note}: ${names[i]}` })),
    ...writer.fields,
    ...extra,
  ]
}

describe('golden bytes of messages', () => {
  for (const codec of MESSAGES) {
    const samples = MESSAGE_SAMPLES.filter((sample) => sample.codec.kind === codec.kind)
    it(codec.name, () => {
      expect(samples.length).toBeGreaterThan(0)
      const comment = [`${codec.name}: kind ${codec.kind}, sent by the ${codec.sender}. Whole frames, header included.`]
      const current = formatGolden(
        comment,
        samples.map((sample) => ({ title: sample.title, fields: frameFields(sample) })),
      )
      const text = goldenText(`${fileName(codec.name)}.hex`, current)
      const golden = parseGolden(text)
      for (const sample of samples) {
        const frame = golden.get(sample.title)!
        const { id, timeMs, extra } = sample
        const encoded = encodeFrame(codec, sample.message, { id, timeMs, extraPayloadBytes: extra.length })
        expect(concat([encoded, extra]), sample.title).toEqual(frame)
        expect(codec.decode(new Reader(frame.subarray(FRAME_HEADER_BYTES))), sample.title).toEqual(sample.message)
      }
      expect(current).toBe(text)
    })
  }
})

describe('golden bytes of batches', () => {
  const current = formatGolden(
    ['Client parts of batches. The compressed body was made once; other compressors make other bytes of it.'],
    SAMPLE_BATCHES.map((sample) => ({ title: sample.title, fields: batchFields(buildSampleBatch(sample)) })),
  )
  const text = goldenText('batches.hex', current)
  const golden = parseGolden(text)
  for (const sample of SAMPLE_BATCHES) {
    it(sample.title, () => {
      const batch = golden.get(sample.title)!
      expect(buildSampleBatch(sample)).toEqual(batch)
      expect(verifyBatch(batch, zlibCrc32)).toBe(true)
      const header = headerOf(batch)
      expect(header).toMatchObject({ ...sample.identity, recordCount: sample.records.length, length: batch.length })
      const body = header.codec === 'gzip' ? new Uint8Array(gunzipSync(batch.subarray(80))) : batch.subarray(80)
      expect(body.length).toBe(header.decodedBytes)
      const records = splitRecords(body).map(({ record }) => record)
      expect(asSamples(records, header.baseTimestamp)).toEqual(sample.records)
    })
  }

  it('with every note right', () => {
    expect(current).toBe(text)
  })

  it('behind a log part', () => {
    const batch = buildSampleBatch(SAMPLE_BATCHES[0]!)
    const whole = logged(batch, { term: 17, baseOffset: 0x12_3456_789a_bcde, index: 14, appendTime: SOME_TIME + 3 })
    const title = 'the log part of the first golden batch'
    const now = formatGolden(
      ['Log part of a batch, 40 bytes, in front of its client part.'],
      [{ title, fields: logPartFields(whole) }],
    )
    const golden = goldenText('log-part.hex', now)
    expect(parseGolden(golden).get(title)).toEqual(whole.subarray(0, 40))
    expect(now).toBe(golden)
  })
})

const KEYS: readonly Uint8Array[] = [
  ...['', '2', '21', '213', '2131', 'foobar', 'a-little-bit-long-string', 'größe'].map(bytesOf),
  hexBytes('00'),
  hexBytes('ffffffffff'),
]

describe('golden results', () => {
  const note = (bytes: Uint8Array) => (bytes.length === 0 ? 'no bytes' : `${bytes.length} bytes`)

  it('of the partitioner', () => {
    const current = formatGolden(
      [
        'Partitioner murmur2: keys, each with its hash as a signed 32-bit number, and with its partition when the topic',
        'has 1, 2, 6, 48 or 10,000 of them.',
      ],
      KEYS.map((key) => ({
        title: `hash ${murmur2(key)}, partitions ${[1, 2, 6, 48, 10_000].map((n) => partitionOfKey(key, n)).join(' ')}`,
        fields: [{ bytes: key, note: note(key) }],
      })),
    )
    expect(current).toBe(goldenText('partitioner.hex', current))
  })

  it('of the checksum', () => {
    const inputs = [...KEYS, bytesOf('123456789'), new Uint8Array(32), new Uint8Array(32).fill(0xff)]
    const current = formatGolden(
      ['Checksum: inputs, each with its CRC-32 (IEEE 802.3).'],
      inputs.map((input) => ({
        title: `crc ${crc32(input, 0).toString(16).padStart(8, '0')} of ${note(input)}`,
        fields: [{ bytes: input, note: note(input) }],
      })),
    )
    expect(current).toBe(goldenText('checksum.hex', current))
  })
})

describe('the registry', () => {
  const names = MESSAGES.map((codec) => codec.name)

  it('has a golden file for each message, and no file more', () => {
    const expected = [...names.map((name) => `${fileName(name)}.hex`), ...OTHER_FILES]
    expect(readdirSync(GOLDEN_FOLDER).sort()).toEqual(expected.sort())
  })

  it('has a source file for each message, and no file more', () => {
    expect(SOURCES.flatMap((folder) => readdirSync(folder)).sort()).toEqual(
      names.map((name) => `${fileName(name)}.ts`).sort(),
    )
  })

  it('uses every kind and every name once', () => {
    expect(new Set(names).size).toBe(names.length)
    expect(new Set(MESSAGES.map((codec) => codec.kind)).size).toBe(names.length)
  })
})

function rewriteErrors(errors: readonly (readonly string[])[]): void {
  const [before, block, after] = readFileSync(PAGE, 'utf8').split('<!-- errors -->')
  const head = block!.split('\n').slice(0, block!.split('\n').findIndex((line) => line.startsWith('| ---')) + 1)
  const lines = errors.map((cells) => `| ${cells.join(' | ')} |`)
  writeFileSync(PAGE, [before, [...head, ...lines, '', ''].join('\n'), after].join('<!-- errors -->'))
}

describe('docs/WIRE-FORMAT.md', () => {
  const yes = (value: boolean) => (value ? 'yes' : '')
  const errors = Object.entries(ERROR_TABLE).map(([name, row]) => [
    String(row.code),
    name,
    yes(row.retriable),
    yes(row.fatal),
    row.advice,
  ])
  if (REWRITE) rewriteErrors(errors)
  const page = readFileSync(PAGE, 'utf8')
  /** The rows between two marks, as cells. */
  const rows = (mark: string): string[][] => {
    const block = page.split(`<!-- ${mark} -->`)[1] ?? ''
    return block
      .split('\n')
      .filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
      .slice(1)
      .map((line) =>
        line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim()),
      )
  }

  it('lists the messages of the registry', () => {
    const expected = MESSAGES.map((codec) => [
      String(codec.kind),
      codec.name,
      codec.sender,
      `[bytes](../packages/protocol/test/golden/${fileName(codec.name)}.hex)`,
    ])
    expect(rows('messages').map((cells) => [...cells.slice(0, 3), cells.at(-1)])).toEqual(expected)
  })

  it('describes each message under a heading of its own, with the fields its fixed part has', () => {
    const sizes = new Map(Object.entries({ u8: 1, u16: 2, u32: 4, u64: 8, 'u64?': 8, id64: 8, '16B': 16, route: 12 }))
    for (const { codec, message } of MESSAGE_SAMPLES) {
      const section = page.split(`\n### ${codec.name}\n`)[1]?.split('\n### ')[0] ?? ''
      const writer = new NotingWriter()
      codec.encode(message, writer)
      const length = viewOf(writer.written()).getUint16(0, true)
      const heading = new RegExp(`\\| fixed part, ${length} bytes +\\|`)
      const table = section.split('\n\n').find((block) => heading.test(block)) ?? ''
      let at = 0
      for (const line of table.trim().split('\n').slice(2)) {
        const [, from, type] = line.split('|').map((cell) => cell.trim())
        expect(from, `${codec.name}: ${line}`).toBe(String(at))
        at += sizes.get(type ?? '')!
      }
      expect(at, codec.name).toBe(length)
      if (length === 0) expect(section, codec.name).toContain('The fixed part is empty.')
    }
  })

  it('lists the errors of the table', () => {
    expect(rows('errors')).toEqual(errors)
  })
})
