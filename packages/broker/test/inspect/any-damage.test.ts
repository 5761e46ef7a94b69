// Whatever is done to the bytes of a directory, the commands come to an end, and damage to what was flushed is told.
import { cpSync, readdirSync, statSync, truncateSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { SeededRandom } from '../../sim/random.js'
import { fill, flip, groupsOf, log, scratch, stopped } from './directories.js'

it('is told by verify, and never ends it otherwise', { timeout: 120_000 }, async () => {
  const whole = await stopped({ batches: 8, valueBytes: 2_000 })
  for (let seed = 0; seed < 20; seed++) {
    const random = new SeededRandom(`any-damage/${seed}`)
    const directory = scratch()
    cpSync(whole, directory, { recursive: true })
    const files = readdirSync(directory).sort()
    const groups = [...groupsOf(directory, 0), ...groupsOf(directory, 1)]
    let isCertain = false
    for (let i = random.integer(1, 4); i > 0; i--) {
      const file = random.pick(files)
      const { size } = statSync(join(directory, file), { throwIfNoEntry: false }) ?? { size: 0 }
      if (size === 0) continue
      const group = random.pick(groups)
      switch (random.integer(0, 4)) {
        case 0:
          flip(directory, file, random.integer(0, size - 1))
          break
        case 1:
          fill(directory, file, Math.floor(random.integer(0, size - 1) / 512) * 512, 512, random.pick([0, 0xff]))
          break
        case 2:
          if (random.chance(0.3)) truncateSync(join(directory, file), random.integer(0, size))
          break
        case 3:
          if (random.chance(0.3)) unlinkSync(join(directory, file))
          break
        default:
          // Checksums cover everything but the padding.
          if (statSync(join(directory, group.slot), { throwIfNoEntry: false }) === undefined) break
          flip(directory, group.slot, group.at + random.integer(0, group.envelope.length - 1))
          isCertain = true
      }
    }
    const { code, report } = await log('verify', directory, '--json')
    if (typeof code !== 'number') expect(code, `seed ${seed}`).toMatchObject({ name: 'InspectError' })
    else if (isCertain && files.length === readdirSync(directory).length) expect([seed, code]).toEqual([seed, 1])
    if (typeof code === 'number') expect(report.damaged).toBe(code === 1)
    const { code: inspected } = await log('inspect', directory, '--groups', '--batches')
    if (inspected !== 0) expect(inspected, `seed ${seed}`).toMatchObject({ name: 'InspectError' })
  }
})
