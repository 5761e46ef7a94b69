// A short run of the crash harness, and proof that it would notice.
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { CrashMemory } from '../../sim/crash/crash-environment.js'
import { runCrashes } from '../../sim/crash/crash-run.js'
import { searchTrace, searchWorkload } from '../../sim/crash/crash-search.js'
import { allStates, CrashPoint, EXHAUSTIVE_CHOICES } from '../../sim/crash/crash-states.js'
import { DiskTrace, type TraceEvent } from '../../sim/crash/disk-trace.js'
import { type Choice, DurableState } from '../../sim/crash/durable-state.js'
import { LogContent, type Owed } from '../../sim/crash/log-history.js'
import { PAGE_BYTES, PageFile, VolumeImage } from '../../sim/crash/page-image.js'
import { recoverAndCheck } from '../../sim/crash/recovered-check.js'
import { AT_ONCE, TracedVolume } from '../../sim/crash/traced-volume.js'
import { SHORT_TRACES } from '../../sim/crash/traces.js'
import { TracedVotes } from '../../sim/crash/vote-history.js'
import { type Step, Workload, type WorkloadResult } from '../../sim/crash/workload.js'
import { SeededRandom } from '../../sim/random.js'

/** A process cannot begin with a source file. */
const WORKER = fileURLToPath(new URL('../../dist-dev/sim/crash/crash-worker.js', import.meta.url))

const APPEND: Step = { kind: 'append', log: 0, bytes: 300, mode: 'flush' }
const FLUSH: Step = { kind: 'flush', log: 0 }

const run = (seed: string, steps: readonly Step[]) => new Workload(new SeededRandom(seed)).run(1, steps)

/** The same workload, had its disk or its log done something else. */
function withEvents(workload: WorkloadResult, events: readonly TraceEvent[]): WorkloadResult {
  const trace = new DiskTrace()
  trace.events.push(...events)
  return { ...workload, trace }
}

function isFlush(event: TraceEvent): boolean {
  return event.kind !== 'note' && (event.operation.kind === 'flush' || event.operation.kind === 'sync')
}

describe('crash states', () => {
  it('lose nothing promised and show nothing else', { timeout: 60_000 }, async () => {
    let states = 0
    for (let trace = 0; states < 400; trace++) {
      const { images, failure } = await searchTrace(trace)
      expect(failure).toBeNull()
      expect(new Set(images).size).toBe(images.length)
      states += images.length
    }
    expect(new Set(SHORT_TRACES.map((steps) => JSON.stringify(steps))).size).toBe(SHORT_TRACES.length)
  })

  it('can be looked at one by one', async () => {
    const one = await searchTrace(1, 7)
    expect(one.failure).toBeNull()
    expect(one.images.length + one.duplicates).toBeGreaterThanOrEqual(1)
    expect(one.images.length).toBeLessThanOrEqual(2)
  })

  it('are the same whoever looks at them', { timeout: 60_000 }, async () => {
    const alone = await runCrashes({ states: 60, first: 0, workers: 1, program: WORKER })
    const together = await runCrashes({ states: 60, first: 0, workers: 2, program: WORKER })
    expect(together).toMatchObject({
      states: alone.states,
      duplicates: alone.duplicates,
      traces: alone.traces,
      failures: [],
    })
    expect(alone.states).toBeGreaterThanOrEqual(60)
  })

  it('are all there are where choices are few, each sector old, new, garbage or zero', async () => {
    const { durable, write } = await smallDisk()
    await write(0, 4)
    await write(0, 5)
    const point = new CrashPoint(durable())
    expect(point.choices.length).toBe(8)
    // Too many for every sector to be each of its five contents, but not for old and two new ones.
    expect(allStates(point).length).toBe(64 + 2 * 8)
    expect(point.choices.length).toBeLessThanOrEqual(EXHAUSTIVE_CHOICES)
  })
})

/** A disk with a file of two written pages. */
async function smallDisk() {
  const trace = new DiskTrace()
  const volume = new TracedVolume(new VolumeImage(), trace, AT_ONCE)
  const file = await volume.open('a', { create: true })
  await file.allocate(2 * PAGE_BYTES)
  const block = new CrashMemory(1024 * 1024).allocate(PAGE_BYTES)!
  const write = async (page: number, byte: number): Promise<void> => {
    block.bytes.fill(byte)
    await file.write(page * PAGE_BYTES, block, 0, PAGE_BYTES)
  }
  await write(0, 1)
  await write(1, 1)
  await file.sync()
  await volume.syncDirectory()
  const durable = (): DurableState => {
    const state = new DurableState(new VolumeImage(), 'files')
    for (const event of trace.events) state.step(event)
    return state
  }
  return { trace, volume, file, block, write, durable }
}

describe('the model of the disk', () => {
  it('takes nothing for durable that no flush covered', async () => {
    const trace = new DiskTrace()
    const volume = new TracedVolume(new VolumeImage(), trace, AT_ONCE)
    const file = await volume.open('a', { create: true })
    await file.allocate(8192)
    const block = new CrashMemory(1024 * 1024).allocate(4096)!
    block.bytes.fill(7)
    await file.write(0, block, 0, 4096)
    const choicesAfter = async (what: () => Promise<void>) => {
      await what()
      const durable = new DurableState(new VolumeImage(), 'volume')
      for (const event of trace.events) durable.step(event)
      return { count: durable.choices().length, image: durable.image }
    }
    // A flush says nothing of names, sizes and extents written for the first time.
    expect((await choicesAfter(() => volume.flush([file]))).count).toBe(10)
    expect((await choicesAfter(() => file.sync())).count).toBe(1)
    const { count, image } = await choicesAfter(() => volume.syncDirectory())
    expect(count).toBe(0)
    expect(image.files.get('a')).toMatchObject({ size: 8192 })
    expect(image.files.get('a')!.page(0)[0]).toBe(7)
    await file.write(0, block, 0, 4096)
    block.bytes[0] = 8
    expect((await choicesAfter(() => file.write(0, block, 0, 4096))).count).toBe(1)
    expect((await choicesAfter(() => volume.flush([file]))).count).toBe(0)
  })

  it('keeps to chance what a failed flush covered, whatever later flushes say', async () => {
    const { volume, file, write, durable } = await smallDisk()
    await write(0, 2)
    volume.failingFlushes = 1
    await expect(volume.flush([file])).rejects.toThrow()
    await volume.flush([file])
    await file.sync()
    expect(durable().choices().length).toBe(8)
    await write(1, 3)
    await volume.flush([file])
    expect(durable().choices().length).toBe(8)
  })

  it('covers with a flush what had completed when it was submitted', async () => {
    const { trace, write, durable } = await smallDisk()
    await write(0, 2)
    const written = trace.events.splice(-1)
    const flush = { kind: 'flush', files: ['a'] } as const
    const id = trace.submit(flush)
    trace.events.push(...written)
    trace.complete(id, flush)
    expect(durable().choices().length).toBe(8)
  })

  it('knows that a sector written again with what it held may be spoilt, and that extents hold what was there', async () => {
    const { write, durable, file } = await smallDisk()
    await write(0, 1)
    expect(durable().choices()).toEqual([])
    expect(durable().rewritten().length).toBe(8)
    await file.allocate(4 * PAGE_BYTES)
    await file.sync()
    expect(durable().neverWritten()).toEqual([
      { file: 'a', page: 2 },
      { file: 'a', page: 3 },
    ])
  })

  it('loses with the size of a file what was written to it, also when the file grows again', async () => {
    const trace = new DiskTrace()
    const volume = new TracedVolume(new VolumeImage(), trace, AT_ONCE)
    const file = await volume.open('a', { create: true })
    await volume.syncDirectory()
    await file.allocate(PAGE_BYTES)
    const block = new CrashMemory(1024 * 1024).allocate(PAGE_BYTES)!
    block.bytes.fill(7)
    await file.write(0, block, 0, PAGE_BYTES)
    const durable = new DurableState(new VolumeImage(), 'files')
    for (const event of trace.events) durable.step(event)
    const grownAgain = async (keepsSize: boolean) => {
      const choose = (choice: Choice) => (choice.kind === 'sector' ? choice.versions[0]! : keepsSize)
      const image = durable.build(durable.choices(), choose)
      expect(image.files.get('a')).toMatchObject({ size: keepsSize ? PAGE_BYTES : 0 })
      const again = await new TracedVolume(image, null, AT_ONCE).open('a')
      await again.allocate(2 * PAGE_BYTES)
      expect(await again.read(0, block, 0, PAGE_BYTES)).toBe(PAGE_BYTES)
      return new Set(block.bytes.subarray(0, PAGE_BYTES))
    }
    expect(await grownAgain(true)).toEqual(new Set([7]))
    expect(await grownAgain(false)).toEqual(new Set([0]))
  })

  it('tells images apart by every byte, name and size', () => {
    const hash = (name: string, byte: number, size = PAGE_BYTES): number => {
      const page = new Uint8Array(PAGE_BYTES)
      page[4000] = byte
      return new VolumeImage(new Map([[name, new PageFile([page], size)]])).hash()
    }
    const hashes = [hash('a', 1), hash('a', 2), hash('b', 1), hash('a', 1, 2 * PAGE_BYTES), hash('a', 0)]
    expect(new Set(hashes).size).toBe(hashes.length)
    expect(hash('a', 1)).toBe(hash('a', 1))
  })
})

describe('the harness', () => {
  async function finished(): Promise<{ image: VolumeImage; owed: Owed }> {
    const { trace, start, logs } = await run('finished', [APPEND, APPEND, FLUSH])
    const durable = new DurableState(start, 'files')
    for (const event of trace.events) {
      if (event.kind === 'note') event.apply()
      else durable.step(event)
    }
    const { history, givenWhenFlushed, kept } = [...logs.values()][0]!
    const owed = {
      topicId: 1,
      history,
      given: 2,
      kept,
      givenWhenFlushed,
      committed: 0,
      startOffset: 0,
      dropAsked: false,
      dropped: false,
      votes: new TracedVotes(),
    }
    return { image: durable.build([], () => false), owed }
  }

  it('accepts what is right', async () => {
    const { image, owed } = await finished()
    expect(owed.kept).toBe(2)
    const { logs } = await recoverAndCheck(image, [owed])
    expect(logs.get(1)!.batches).toEqual(LogContent.after(owed.history, 2).batches)
  })

  it('notices loss, phantoms, wrong bytes, and logs that should be gone', async () => {
    const { image, owed } = await finished()
    const longer = [...owed.history, owed.history[1]!]
    await expect(recoverAndCheck(image, [{ ...owed, history: longer, kept: 3, given: 3 }])).rejects.toMatchObject({
      invariant: 'lost',
    })
    await expect(recoverAndCheck(image, [{ ...owed, kept: 1, given: 1 }])).rejects.toMatchObject({
      invariant: 'phantom',
    })
    await expect(recoverAndCheck(image, [])).rejects.toMatchObject({ invariant: 'phantom' })
    await expect(recoverAndCheck(image, [{ ...owed, dropped: true }])).rejects.toMatchObject({ invariant: 'phantom' })
    await expect(recoverAndCheck(new VolumeImage(), [owed])).rejects.toMatchObject({ invariant: 'lost' })
    const [first, second] = owed.history
    if (first?.kind !== 'append' || second?.kind !== 'append') throw new Error('two appends were asked for')
    const other = { ...second, batch: { ...second.batch, bytes: first.batch.bytes } }
    await expect(recoverAndCheck(image, [{ ...owed, history: [first, other] }])).rejects.toMatchObject({
      invariant: 'wrong bytes',
    })
  })

  it('catches a disk that flushes nothing, and a log that promises before it flushes', {
    timeout: 60_000,
  }, async () => {
    const workload = await run('lies', [APPEND, FLUSH, APPEND, FLUSH, APPEND, FLUSH])
    const options = { trace: 1, model: 'files', visit: null, only: null } as const
    expect((await searchWorkload(workload, options)).failure).toBeNull()
    const { events } = workload.trace
    const lying = withEvents(
      workload,
      events.filter((event) => !isFlush(event)),
    )
    expect((await searchWorkload(lying, options)).failure).toMatchObject({ invariant: 'lost' })
    const early: TraceEvent[] = []
    for (const event of events) {
      const flush = early.findLastIndex((earlier) => earlier.kind === 'submit' && isFlush(earlier))
      if (event.kind === 'note' && flush >= 0) early.splice(flush, 0, event)
      else early.push(event)
    }
    expect((await searchWorkload(withEvents(workload, early), options)).failure).toMatchObject({ invariant: 'lost' })
  })
})
