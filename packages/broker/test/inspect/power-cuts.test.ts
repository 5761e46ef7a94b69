// Honest power cuts, thousands of them, are never taken for damage, and verify finds the same end of each log as recovery.
import { describe, expect, it } from 'vitest'
import { type InspectedVolume, inspectVolume } from '#src/inspect/inspected-volume.js'
import { LogInspection } from '#src/inspect/log-inspection.js'
import { unpack } from '#src/io/unpack.js'
import { keyText } from '#src/storage/group-envelope.js'
import type { LogEnd } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { CrashMemory, crashEnvironment } from '../../sim/crash/crash-environment.js'
import { CrashPoint, sampleState } from '../../sim/crash/crash-states.js'
import { DurableState } from '../../sim/crash/durable-state.js'
import { TracedState } from '../../sim/crash/log-history.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { AT_ONCE, TracedVolume } from '../../sim/crash/traced-volume.js'
import { drawSteps } from '../../sim/crash/traces.js'
import { CRASH_LIMITS, IDENTITY, Workload } from '../../sim/crash/workload.js'
import { SeededRandom } from '../../sim/random.js'

const TRACES = 24
const STATES_PER_TRACE = 40

/** Images that power cuts of one random workload could leave. */
async function imagesOf(trace: number): Promise<VolumeImage[]> {
  const random = new SeededRandom(`power-cuts/${trace}`)
  const { trace: operations, start } = await new Workload(random.split('workload')).run(
    random.integer(1, 2),
    drawSteps(random),
  )
  const durable = new DurableState(start, random.pick(['files', 'volume']))
  const images: VolumeImage[] = []
  for (const event of operations.events) {
    if (event.kind === 'note') event.apply()
    else durable.step(event)
    if (random.chance(STATES_PER_TRACE / operations.events.length))
      images.push(sampleState(new CrashPoint(durable), random))
  }
  return images
}

async function inspected(image: VolumeImage, memory: CrashMemory): Promise<InspectedVolume | null> {
  const volume = new TracedVolume(image.copy(), null, AT_ONCE)
  // Before the first slot has a header nothing says whose it is.
  return inspectVolume(volume, memory).catch((cause: unknown) => {
    if (cause instanceof Error && cause.name === 'InspectError') return null
    throw cause
  })
}

async function recovered(image: VolumeImage): Promise<Map<string, LogEnd>> {
  const environment = crashEnvironment(new SeededRandom('power-cuts'), new CrashMemory(256 * 1024 * 1024, false))
  const store = await openLogStore(environment, new TracedVolume(image.copy(), null, AT_ONCE), IDENTITY, CRASH_LIMITS)
  const ends = new Map<string, LogEnd>()
  for (const key of store.found) ends.set(keyText(key), (await store.open(key, new TracedState())).filled)
  return ends
}

describe('verify after a power cut', () => {
  it('ends every log where recovery does, and sees no damage', { timeout: 120_000 }, async () => {
    const counts = { images: 0, logs: 0, torn: 0 }
    for (let trace = 0; trace < TRACES; trace++) {
      for (const image of await imagesOf(trace)) {
        const memory = new CrashMemory(256 * 1024 * 1024, false)
        const volume = await inspected(image, memory)
        if (volume === null) continue
        counts.images++
        const problems = volume.problems.filter(
          ({ where, severity }) => severity === 'damage' && where !== 'identity.json',
        )
        expect([trace, problems]).toEqual([trace, []])
        const ends = await recovered(image)
        for (const log of volume.logs) {
          const { clock } = crashEnvironment(new SeededRandom('clock'), memory)
          const world = { memory, clock, unpack, progressed: () => {} }
          const report = await new LogInspection(world, log, null).run()
          const where = `trace ${trace}, image ${counts.images}, log ${keyText(log.key)}: ${report.end.reason}`
          expect([where, report.damage, report.undecodable]).toEqual([where, [], []])
          const end = ends.get(keyText(log.key))
          expect([where, report.lastIndex, report.nextOffset]).toEqual([where, end?.index, end?.nextOffset])
          counts.logs++
          if (report.state === 'torn') counts.torn++
        }
      }
    }
    expect(counts.images).toBeGreaterThan(300)
    expect(counts.logs).toBeGreaterThan(300)
    expect(counts.torn).toBeGreaterThan(10)
  })
})
