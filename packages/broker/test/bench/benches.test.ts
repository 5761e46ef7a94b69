// Benches cannot rot: each runs here with a moment's work, on a broker process of its own, and must have done some.
import { readdirSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'

const COMPILED = fileURLToPath(new URL('../../dist-dev/bench/', import.meta.url))
const FILES = readdirSync(COMPILED).filter((name) => name.endsWith('.bench.js'))

interface Bench {
  readonly name: string
  run(options: { tiny: boolean; json: boolean; argv: string[] }): Promise<Record<string, unknown>>
}

const POSITIVE = [
  'recordsPerSecond',
  'singleSendsPerSecond',
  'batchedRecordsPerSecond',
  'consumedRecordsPerSecond',
  'rssMb',
  'virtualSeconds',
]

/** Every figure of work done in a result, however deep. */
function figures(value: unknown): number[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) => {
    if (!POSITIVE.includes(key)) return figures(inner)
    return [inner].flat().filter((figure) => typeof figure === 'number')
  })
}

describe('benches of the broker', () => {
  it.each(FILES)(
    '%s does its work',
    async (file) => {
      const bench = (await import(pathToFileURL(`${COMPILED}${file}`).href)) as Bench
      expect(file).toBe(`${bench.name}.bench.js`)
      const result = await bench.run({ tiny: true, json: true, argv: [] })
      const done = figures(result)
      expect(done.length).toBeGreaterThan(0)
      for (const figure of done) expect(figure).toBeGreaterThan(0)
    },
    120_000,
  )
})
