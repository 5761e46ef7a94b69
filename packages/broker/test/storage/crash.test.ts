// A short run of the crash harness, and proof that it would notice.
import { describe, expect, it } from 'vitest'
import { SHORT_TRACES, searchTrace } from '../../sim/crash/crash-search.js'
import { DiskTrace } from '../../sim/crash/disk-trace.js'
import { DurableState } from '../../sim/crash/durable-state.js'
import { VolumeImage } from '../../sim/crash/page-image.js'
import { type Owed, recoverAndCheck } from '../../sim/crash/recovered-check.js'
import { AT_ONCE, TracedVolume } from '../../sim/crash/traced-volume.js'
import { Workload } from '../../sim/crash/workload.js'
import { SeededRandom } from '../../sim/random.js'

describe('crash states', () => {
  it('lose nothing promised and show nothing else', { timeout: 60_000 }, async () => {
    let states = 0
    for (let trace = 0; states < 400; trace++) {
      const result = await searchTrace(trace, 60, null)
      expect(result.failure).toBeNull()
      states += result.states
    }
    expect(SHORT_TRACES.length).toBe(7 + 7 ** 2 + 7 ** 3)
  })

  it('can be looked at one by one', async () => {
    const all = await searchTrace(1, 20, null)
    expect(all.states).toBe(20)
    expect(await searchTrace(1, 20, 7)).toEqual({ states: 1, failure: null })
  })
})

describe('the harness', () => {
  async function finished(): Promise<{ image: VolumeImage; owed: Owed }> {
    const { trace, start, logs } = await new Workload(new SeededRandom('finished')).run(1, [
      { kind: 'append', log: 0, bytes: 300, mode: 'flush' },
      { kind: 'append', log: 0, bytes: 300, mode: 'flush' },
      { kind: 'flush', log: 0 },
    ])
    const durable = new DurableState(start, 'files')
    for (const event of trace.events) {
      if (event.kind === 'note') event.apply()
      else durable.step(event)
    }
    const [log] = [...logs.values()]
    const owed = { topicId: 1, batches: log!.batches, given: 2, kept: log!.flushed, dropAsked: false, dropped: false }
    return { image: durable.build([], () => false), owed }
  }

  it('accepts what is right', async () => {
    const { image, owed } = await finished()
    expect(owed.kept).toBe(2)
    const { recovered } = await recoverAndCheck(image, [owed])
    expect(recovered.counts.get(1)).toBe(2)
  })

  it('notices loss, phantoms, wrong bytes, and logs that should be gone', async () => {
    const { image, owed } = await finished()
    await expect(recoverAndCheck(image, [{ ...owed, kept: 3, given: 3 }])).rejects.toMatchObject({ invariant: 'lost' })
    await expect(recoverAndCheck(image, [{ ...owed, kept: 1, given: 1 }])).rejects.toMatchObject({
      invariant: 'phantom',
    })
    await expect(recoverAndCheck(image, [])).rejects.toMatchObject({ invariant: 'phantom' })
    await expect(recoverAndCheck(image, [{ ...owed, dropped: true }])).rejects.toMatchObject({ invariant: 'phantom' })
    await expect(recoverAndCheck(new VolumeImage(), [owed])).rejects.toMatchObject({ invariant: 'lost' })
    const swapped = { ...owed, batches: [...owed.batches].reverse() }
    await expect(recoverAndCheck(image, [swapped])).rejects.toThrow()
  })

  it('takes nothing for durable that no flush covered', async () => {
    const trace = new DiskTrace()
    const volume = new TracedVolume(new VolumeImage(), trace, AT_ONCE)
    const file = await volume.open('a', { create: true })
    await file.allocate(8192)
    const { CrashMemory } = await import('../../sim/crash/crash-environment.js')
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
})
