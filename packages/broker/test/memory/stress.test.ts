// Real threads on one page table, as fast as they can.
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { TableLayout } from '#src/memory/table-layout.js'
import { DROPPED_SLOT, KEPT_SLOT, type StressOptions, type StressReport, stressPlaces } from './stress-worker.js'
import { violatedAtEnd } from './table-readers.js'

const WORKERS = 3
const GEOMETRY = { frames: 12, window: 4, entries: 32, ghosts: 16 }
const PAGES = 40
const ENTRY = new URL('../../dist-dev/test/memory/stress-worker.js', import.meta.url)

async function stress(durationMs: number, torn: boolean) {
  const layout = new TableLayout(GEOMETRY)
  const shared = new SharedArrayBuffer(stressPlaces(layout, WORKERS, PAGES).words * 4)
  const words = new Int32Array(shared)
  layout.begin(words)
  const reports = await Promise.all(
    Array.from({ length: WORKERS }, (_, id) => {
      const options: StressOptions = {
        id,
        workers: WORKERS,
        seed: 77 + id,
        durationMs,
        geometry: GEOMETRY,
        pages: PAGES,
        shared,
        torn,
      }
      return new Promise<StressReport>((resolve, reject) => {
        const worker = new Worker(ENTRY, { workerData: options })
        worker.once('message', resolve)
        worker.once('error', reject)
      })
    }),
  )
  const sum = (of: (report: StressReport) => number): number => reports.reduce((total, report) => total + of(report), 0)
  return {
    broken: reports.flatMap(({ broken }) => broken ?? []),
    atRest: violatedAtEnd(layout, (at) => words[at]!),
    reads: sum(({ reads }) => reads),
    loads: sum(({ loads }) => loads),
    waits: sum(({ waits }) => waits),
    drops: sum(({ drops }) => drops),
    evictions: sum(({ evictions }) => evictions),
  }
}

describe('threads that share a page table', () => {
  it('find in each page what belongs there, and leave nothing behind', async () => {
    const { broken, atRest, ...counts } = await stress(1_500, false)
    expect([broken, atRest]).toEqual([[], null])
    expect(counts.reads).toBeGreaterThan(10_000)
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(0)
    expect(KEPT_SLOT).not.toBe(DROPPED_SLOT)
  })

  it('do not, when their compare-and-swap is a load and a store', async () => {
    const { broken, atRest } = await stress(2_500, true)
    expect([...broken, atRest ?? '']).not.toEqual([''])
  })
})
