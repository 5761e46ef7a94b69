// `log verify`: damage is told from what a crash may leave, and everything that is lost is named.
import { spawnSync } from 'node:child_process'
import { readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { crc32, sealBatch } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { batchOf } from '../server/batches.js'
import { cutOff, fingerprint, flip, groupAt, groupsOf, log, runFilled, stopped } from './directories.js'

async function verify(directory: string) {
  const { code, report } = await log('verify', directory, '--json')
  const damaged = report.logs.filter(({ state }) => state === 'damaged')
  return {
    code,
    report,
    damaged,
    orders: report.logs.find(({ topic, partition }) => topic === 'orders' && partition === 0),
  }
}

const PROGRAM = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))

function run(...args: string[]): { readonly code: number | null; readonly stdout: string; readonly stderr: string } {
  const { status: code, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, 'log', ...args], { encoding: 'utf8' })
  return { code, stdout, stderr }
}

describe('log verify', () => {
  it('ends with 0, 1 and 2 as a command', async () => {
    const directory = await stopped({ batches: 2 })
    expect(run('verify', directory)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('no damage'),
      stderr: '',
    })
    const json = run('inspect', directory, '--json')
    expect(JSON.parse(json.stdout.trimEnd().split('\n').at(-1)!)).toMatchObject({ command: 'inspect', damaged: false })
    const { slot, at } = groupAt(directory, 0, 0)
    flip(directory, slot, at + 96 + 40 + 90)
    expect(run('verify', directory)).toMatchObject({ code: 1, stdout: expect.stringContaining('DAMAGED') })
    expect(run('verify', join(directory, 'elsewhere'))).toMatchObject({ code: 2, stdout: '' })
    expect(run('verify')).toMatchObject({ code: 2, stderr: expect.stringContaining('needs the data directory') })
  })

  it('finds nothing in what a broker left, stopped or not, and changes nothing', async () => {
    for (const directory of [await stopped(), await cutOff()]) {
      const before = fingerprint(directory)
      const { code, report } = await verify(directory)
      expect(code).toBe(0)
      expect(report).toMatchObject({ damaged: false, problems: [] })
      expect(report.logs.map(({ state }) => state)).toEqual(['clean', 'clean', 'clean'])
      const { text } = await log('verify', directory)
      expect(text).toMatch(/^3 logs, 3 segments, \d+ groups, 19 batches, 40 records, .* KiB: no damage\n$/)
      expect(fingerprint(directory)).toBe(before)
    }
  })

  it('names the batch with a flipped byte, and goes on behind it', async () => {
    const directory = await stopped()
    const group = groupAt(directory, 0, 6)
    flip(directory, group.slot, group.at + 96 + 40 + 100)
    const { code, damaged, orders } = await verify(directory)
    expect(code).toBe(1)
    expect(damaged).toHaveLength(1)
    const { firstIndex, firstOffset, position } = group.envelope
    expect(orders?.damage).toEqual([
      {
        slot: group.slot,
        position,
        endPosition: position + 4096,
        filePosition: group.at,
        reason: expect.stringContaining(`batch ${firstIndex}: the checksum of its client part does not hold`),
        firstOffset,
        nextOffset: firstOffset + 3,
        firstIndex,
        nextIndex: firstIndex + 1,
      },
    ])
    expect(orders).toMatchObject({ state: 'damaged', batches: 6, nextOffset: 18, end: { kind: 'clean' } })
    const { text } = await log('verify', directory)
    expect(text).toMatch(/^orders\/0 +DAMAGED +[\d,]+ +6 +8 +slot-/m)
    expect(text).toContain('DAMAGED: 1 log, 0 other problems; keep a copy of the directory before anything else')
    expect((await log('inspect', directory)).code).toBe(0)
  })

  it('names no offset where only the batch of a term is lost', async () => {
    const directory = await stopped()
    const group = groupsOf(directory, 0)[0]!
    flip(directory, group.slot, group.at + 96 + 40 + 20)
    const { code, orders } = await verify(directory)
    expect(code).toBe(1)
    expect(orders).toMatchObject({ state: 'damaged', batches: 6, records: 18, nextOffset: 18, end: { kind: 'clean' } })
    expect(orders?.damage).toMatchObject([{ firstOffset: 0, nextOffset: 0, firstIndex: 1, nextIndex: 2 }])
    expect((await log('verify', directory)).text).toMatch(/^orders\/0 +DAMAGED +0 +0 +none +slot-\d+: batch 1: /m)
  })

  it.each([
    ['envelope', 20, 'the envelope that stands there does not hold'],
    ['magic number', 4, 'no group stands there'],
    ['log part', 96 + 8, 'the checksum of its log part does not hold'],
    ['header of a batch', 96 + 40 + 20, 'the checksum of its client part does not hold'],
  ])('finds a flipped byte in the %s', async (_, at, reason) => {
    const directory = await cutOff()
    const group = groupAt(directory, 0, 3)
    flip(directory, group.slot, group.at + at)
    const { code, orders } = await verify(directory)
    expect(code).toBe(1)
    expect(orders?.damage).toHaveLength(1)
    expect(orders?.damage[0]).toMatchObject({ firstOffset: 3, nextOffset: 6 })
    expect(orders?.damage[0]?.reason).toContain(reason)
    expect(orders?.damage[0]?.reason).toMatch(/was flushed up to/)
  })

  it('finds damage in the last group of a log that was closed in order', async () => {
    const directory = await stopped()
    const last = groupsOf(directory, 0).at(-1)!
    flip(directory, last.slot, last.at + 100)
    const { code, orders } = await verify(directory)
    expect(code).toBe(1)
    expect(orders).toMatchObject({ state: 'damaged', nextOffset: 18, end: { kind: 'damaged' } })
    expect(orders?.damage[0]).toMatchObject({ endPosition: null, nextOffset: null })
  })

  it('takes a torn tail for what it is', async () => {
    const directory = await cutOff()
    const last = groupsOf(directory, 0).at(-1)!
    flip(directory, last.slot, last.at + 96 + 40 + 100)
    const { code, orders, report } = await verify(directory)
    expect(code).toBe(0)
    expect(report.closedInOrder).toBe(false)
    expect(orders).toMatchObject({
      state: 'torn',
      nextOffset: 15,
      damage: [],
      end: { position: last.envelope.position },
    })
    const { text } = await log('verify', directory)
    expect(text).toContain('the next start cuts it, and nothing is lost')
    expect(text).toContain('no damage')
  })

  it('takes a lost header for a hint, unless it has to be there', async () => {
    const directory = await stopped()
    const { slot } = groupsOf(directory, 0)[0]!
    const checkpoint = readFileSync(join(directory, slot)).readUInt32LE(4096 + 4) === 0 ? 2 * 4096 : 4096
    flip(directory, slot, checkpoint + 60)
    const first = await verify(directory)
    expect(first.code).toBe(0)
    expect(first.report.problems).toMatchObject([{ severity: 'note', where: slot }])
    flip(directory, slot, checkpoint + 60)
    flip(directory, slot, 3 * 4096 + 60)
    const second = await verify(directory)
    expect(second.code).toBe(1)
    expect(second.report.problems).toMatchObject([{ severity: 'damage', where: slot }])
    expect(second.damaged).toEqual([])
  })

  it('misses a slot in the middle, at the beginning and at the end', { timeout: 60_000 }, async () => {
    const whole = await stopped({ batches: 30, valueBytes: 60_000 })
    const segments = (await log('inspect', whole, '--log', 'orders/0', '--json')).report.logs[0]!.segments
    expect(segments.length).toBeGreaterThan(2)
    expect((await verify(whole)).code).toBe(0)
    const cases = [
      { missing: 0, reason: 'the first segments are missing', firstOffset: 0, nextOffset: segments[1]!.baseOffset },
      {
        missing: 1,
        reason: 'is missing',
        firstOffset: segments[1]!.baseOffset,
        nextOffset: segments[2]!.baseOffset,
      },
      {
        missing: segments.length - 1,
        reason: 'was flushed up to',
        firstOffset: segments.at(-1)!.baseOffset,
        nextOffset: null,
      },
    ]
    for (const { missing, reason, firstOffset, nextOffset } of cases) {
      const { slot } = segments[missing]!
      renameSync(join(whole, slot), join(whole, 'aside'))
      const { code, orders, damaged } = await verify(whole)
      expect(code).toBe(1)
      expect(damaged).toHaveLength(1)
      expect(orders?.damage).toHaveLength(1)
      expect(orders?.damage[0]).toMatchObject({ firstOffset, nextOffset })
      expect(orders?.damage[0]?.reason).toContain(reason)
      renameSync(join(whole, 'aside'), join(whole, slot))
    }
    const { slot } = segments[1]!
    truncateSync(join(whole, slot), 200_000)
    const short = await verify(whole)
    expect(short.code).toBe(1)
    expect(short.report.problems[0]).toMatchObject({
      where: slot,
      problem: expect.stringContaining('it has 200000 of'),
    })
  })

  it('reads what it can without an identity, and tells slots of others', async () => {
    const directory = await stopped()
    const other = await stopped({ batches: 1 })
    rmSync(join(directory, 'identity.json'))
    const without = await verify(directory)
    expect(without.code).toBe(1)
    expect(without.report.problems).toMatchObject([{ where: 'identity.json', problem: 'it is missing' }])
    expect(without.orders?.records).toBe(18)
    writeFileSync(join(directory, 'identity.json'), '{"format":1}')
    expect((await verify(directory)).report.problems).toMatchObject([{ where: 'identity.json' }])
    writeFileSync(join(directory, 'identity.json'), '{"format":99}')
    expect(String((await log('verify', directory)).code)).toContain('newer version')

    const { slot } = groupsOf(other, 0)[0]!
    writeFileSync(join(other, 'slot-00000099'), readFileSync(join(directory, slot)))
    const foreign = await verify(other)
    expect(foreign.code).toBe(1)
    expect(foreign.report.slots.at(-1)).toMatchObject({ name: 'slot-00000099', state: 'foreign' })
  })

  it('unpacks and decodes records', async () => {
    const { client, topicId, directory, cluster } = await runFilled({ batches: 1 })
    const plain = batchOf(3, { topicId })
    const body = plain.subarray(80)
    for (const [sequence, content] of [gzipSync(body), gzipSync(body.map(() => 0xff))].entries()) {
      const batch = new Uint8Array(80 + content.length)
      batch.set(content, 80)
      const identity = {
        topicId,
        partition: 0,
        lane: 0,
        control: false,
        producer: [9, 9, 9, 9],
        epoch: 0,
        sequence,
      } as const
      const size = { recordCount: 3, lastOffsetDelta: 2, decodedBytes: body.length }
      const times = { baseTimestamp: 1_700_000_000_000, lastTimestamp: 1_700_000_000_000 }
      sealBatch(batch, identity, { codec: 'gzip', ...size, ...times }, crc32)
      expect((await client.produce([batch])).results[0]?.code).toBe(0)
    }
    await cluster.stop()
    const { code, orders } = await verify(directory)
    expect(code).toBe(1)
    expect(orders?.undecodable).toEqual([{ index: 4, baseOffset: 6, reason: expect.stringMatching(/./) }])
    expect(orders?.damage).toEqual([])
  })
})
