// `log inspect`: what stands in a data directory, told without changing it.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fingerprint, log, runFilled, scratch, stopped } from './directories.js'

describe('log inspect', () => {
  it('tells whose directory it is, its slots and its logs', async () => {
    const directory = await stopped()
    const before = fingerprint(directory)
    const { code, report } = await log('inspect', directory, '--json')
    expect(code).toBe(0)
    expect(report).toMatchObject({ directory, nodeId: 1, starts: 1, closedInOrder: true, damaged: false, problems: [] })
    expect(report.clusterId).toMatch(/^[0-9a-f]{32}$/)
    expect(report.slots.filter(({ state }) => state === 'owned')).toHaveLength(3)
    expect(report.slots.filter(({ state }) => state === 'free').length).toBeGreaterThan(0)
    const owned = report.slots.find(({ topicId, partition }) => topicId === 1 && partition === 1)
    expect(owned).toMatchObject({ slotBytes: 2 ** 17, generation: 1, writtenThrough: true, basePosition: 0 })
    expect(owned?.headers).toEqual(['valid', expect.anything(), 'valid', 'valid'])
    const orders = report.logs.find(({ topicId, partition }) => topicId === 1 && partition === 0)
    expect(orders).toMatchObject({
      topic: 'orders',
      lane: 0,
      state: 'clean',
      logStart: { index: 1, offset: 0 },
      nextOffset: 18,
      lastIndex: 7,
      lastTerm: 1,
      batches: 7,
      records: 18,
      deadRanges: [],
      damage: [],
    })
    expect(orders?.checkpoints.length).toBe(orders?.groups.checkpoints)
    expect(report.logs[0]?.topic).toBe('(metadata)')
    const text = (await log('inspect', directory)).text
    expect(text).toMatch(/^orders\/1 +clean +1 +\d+ +7 +18 +0 +18 /m)
    expect(text).toMatch(/^slot-\d{8} +128 KiB +owned +1 +yes +orders\/0 +0$/m)
    expect(fingerprint(directory)).toBe(before)
  })

  it('shows groups and batches of one log, from an offset on, up to a limit', async () => {
    const directory = await stopped()
    const { report, text } = await log('inspect', directory, '--log', 'orders/1', '--groups', '--batches', '--json')
    expect(text.split('\n')).toHaveLength(2)
    expect(report.logs).toHaveLength(1)
    const [orders] = report.logs
    expect(orders?.batchRows).toHaveLength(7)
    expect(orders?.batchRows?.map(({ baseOffset }) => baseOffset)).toEqual([0, 0, 3, 6, 9, 12, 15])
    expect(orders?.batchRows?.map(({ control }) => control)).toEqual([true, ...Array(6).fill(false)])
    expect(orders?.batchRows?.[0]).toMatchObject({ index: 1, term: 1 })
    expect(orders?.batchRows?.[3]).toMatchObject({
      index: 4,
      records: 3,
      term: 1,
      codec: 'none',
      sequence: 2,
      control: false,
    })
    expect(orders?.batchRows?.[3]?.appendTime).toBeGreaterThan(1.6e12)
    const { groups } = orders!
    expect(orders?.groupRows).toHaveLength(groups.batches + groups.checkpoints + groups.indexes)
    expect(orders?.groupRows?.at(-1)).toMatchObject({ kind: 'checkpoint', batches: 0 })
    expect(orders?.groupRows?.at(-1)?.durableTo).toBe(orders?.groupRows?.at(-1)?.position)

    const some = await log('inspect', directory, '--log=1/1', '--batches', '--offset', '7', '--limit', '2', '--json')
    const [part] = some.report.logs
    expect(part?.batchRows?.map(({ baseOffset }) => baseOffset)).toEqual([6, 9])
    expect(part).toMatchObject({ rowsLeftOut: 2 })
    expect(part?.groupRows).toBeUndefined()
    const shown = (await log('inspect', directory, '--log', 'orders/1', '--batches', '--limit', '2')).text
    expect(shown).toContain('5 rows left out: go on with --offset, or raise --limit')
    expect(shown).toMatch(/^log orders\/1: topic id 1, partition 1, lane 0$/m)
  })

  it('refuses while a broker uses the directory', async () => {
    const { directory, cluster } = await runFilled({ batches: 1 })
    const { code } = await log('inspect', directory)
    expect(String(code)).toMatch(/is in use by this process \(\d+\): stop that broker/)
    await cluster.stop()
    expect((await log('verify', directory)).code).toBe(0)
  })

  it('says what a directory is that is none of a broker', async () => {
    const empty = scratch()
    expect(String((await log('inspect', empty)).code)).toContain('is empty: give the directory that --data')
    const other = scratch()
    writeFileSync(join(other, 'notes.txt'), 'not mine')
    mkdirSync(join(other, 'folder'))
    expect(String((await log('verify', other)).code)).toContain('is no data directory of a broker (it holds notes.txt)')
    expect(String((await log('verify', join(other, 'notes.txt'))).code)).toContain('is not a directory')
    expect(String((await log('verify', join(other, 'missing'))).code)).toContain('no such file or directory')
    expect(String((await log('verify', '/proc/self')).code)).toContain('is no data directory of a broker')
  })

  it.each([
    [['inspekt', 'x'], 'did you mean inspect?'],
    [['inspect'], 'needs the data directory'],
    [['verify', 'a', 'b'], 'b is too much'],
    [['inspect', 'a', '--group'], 'did you mean --groups?'],
    [['inspect', 'a', '--log'], '--log needs a value'],
    [['inspect', 'a', '--log', 'orders'], 'it can be <topic>/<partition>'],
    [['inspect', 'a', '--limit', '0'], 'a whole number from 1 to'],
  ])('refuses %j', async (args, words) => {
    const { code, text } = await log(...args)
    expect(code).toMatchObject({ name: 'InspectError', message: expect.stringContaining(words) })
    expect(text).toBe('')
  })

  it('names the logs there are when it is asked for another', async () => {
    const directory = await stopped({ batches: 1 })
    const { code } = await log('inspect', directory, '--log', 'order/1')
    expect(String(code)).toContain('there is no log order/1 in the directory; did you mean orders/1?')
  })

  it('shows its help', async () => {
    for (const args of [[], ['--help'], ['inspect', '--help']]) {
      expect(await log(...args)).toMatchObject({ code: 0, text: expect.stringContaining('log verify <dir>') })
    }
  })
})
