// `log verify` and the slots that retention has given back: what is left of those is no damage, a gap in the log is.
import { expect, it } from 'vitest'
import { inspectVolume } from '#src/inspect/inspected-volume.js'
import { LogInspection } from '#src/inspect/log-inspection.js'
import { unpack } from '#src/io/unpack.js'
import { sealLogStart } from '#src/storage/log-start.js'
import { FREE_HEADER_POSITION } from '#src/storage/slot-layout.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { AT_ONCE, TracedVolume } from '../../sim/crash/traced-volume.js'
import { damage, KEY, SMALL, slotFiles, TestStore, turn } from '../storage/fixture.js'

const ONE_SIZE = { ...SMALL, slotBytes: [64 * 1024], maxGroupBytes: 32 * 1024, maxUnflushedBytes: 32 * 1024 }

/** A log over many slots of which the first ones were given back. */
async function shortened() {
  const test = await TestStore.open(undefined, ONE_SIZE)
  const log = await test.open()
  await test.fill(log, 200, { bytes: 3000 })
  const start = log.expire({ bytes: 200 * 1024, appendedBefore: null })!
  await test.appendWhenRoom(log, sealLogStart(start, KEY, log.filled.index + 1, 5))
  await test.settled(log.flush())
  log.noteCommitted(log.flushedIndex)
  await test.until(() => log.bytesOnDisk <= 5 * 64 * 1024, 'the slots come back')
  await turn()
  return { test, log }
}

async function reportOn(test: TestStore, image: VolumeImage) {
  const volume = await inspectVolume(new TracedVolume(image, null, AT_ONCE), test.memory)
  const { clock } = test.environment
  const world = { memory: test.memory, clock, unpack, progressed: () => {} }
  return { volume, report: await new LogInspection(world, volume.logs[0]!, null).run() }
}

it('slots that lost the header which gave them back are not part of the log', async () => {
  const { test, log } = await shortened()
  const whole = await reportOn(test, test.image.copy())
  expect(whole.report).toMatchObject({ damage: [], logStart: { offset: log.startOffset } })
  let leftOver = 0
  for (const name of slotFiles(test.image)) {
    const image = test.image.copy()
    damage(image, name, FREE_HEADER_POSITION, (page) => page.fill(0))
    const { volume, report } = await reportOn(test, image)
    const owned = volume.slots.filter(({ state }) => state === 'owned').length
    if (owned > report.segments.length) leftOver++
    expect([name, report.damage]).toEqual([name, []])
    expect(report).toMatchObject({ nextOffset: log.filled.nextOffset, logStart: { offset: log.startOffset } })
  }
  expect(leftOver).toBeGreaterThan(3)
})

it('a slot that is missing in the middle is damage all the same', async () => {
  const { test } = await shortened()
  const { report } = await reportOn(test, test.image.copy())
  const image = test.image.copy()
  image.files.delete(report.segments[1]!.slot)
  const { report: damaged } = await reportOn(test, image)
  expect(damaged.damage).toHaveLength(1)
  expect(damaged.damage[0]?.reason).toContain('is missing')
})
