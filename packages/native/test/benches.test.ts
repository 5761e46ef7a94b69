// Benches cannot rot: each runs for a moment and says what it found.
import { expect, it } from 'vitest'
import * as checksum from '../bench/checksum.bench.js'
import * as disk from '../bench/disk.bench.js'
import * as ring from '../bench/ring.bench.js'

it.each([checksum, disk, ring])('$name runs tiny', async ({ name, run }) => {
  expect(name).toMatch(/^native-/)
  const result = await run({ tiny: true })
  expect(JSON.parse(JSON.stringify(result))).toMatchObject(
    'refused' in result
      ? { refused: expect.any(String) }
      : { results: expect.any(Array), checksum: expect.any(Number) },
  )
})
