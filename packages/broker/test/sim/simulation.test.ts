// The simulation over the product: seeds pass, repeat exactly in this process and in others, and reach rare states.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { liveThrough } from '../../sim/log-lives.js'
import { readMutants } from '../../sim/mutant-tree.js'
import { optionsOf } from '../../sim/options.js'
import { runSimulation } from '../../sim/simulation.js'

const run = promisify(execFile)
const SIM = fileURLToPath(new URL('../../dist-dev/sim/', import.meta.url))

interface Report {
  readonly seeds: number
  readonly failures: number
  readonly firstFailure: unknown
  readonly eventsPerSecond: number
  readonly coverage: Readonly<Record<string, number>>
  readonly traceHashes: Readonly<Record<string, string>>
}

async function report(flags: readonly string[], args: readonly string[]): Promise<Report> {
  const { stdout } = await run(process.execPath, [...flags, `${SIM}main.js`, ...args, '--json'])
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Report
}

describe('the simulation', () => {
  it('finds nothing in a handful of seeds, and repeats each exactly', { timeout: 120_000 }, async () => {
    for (const seed of [1, 2]) {
      const first = await runSimulation(optionsOf(seed))
      const second = await runSimulation(optionsOf(seed))
      expect(first.failures).toEqual([])
      expect(second.traceHash).toBe(first.traceHash)
      expect(second.events).toBe(first.events)
      expect(first.records.acknowledged).toBeGreaterThan(0)
    }
  })

  it('repeats in other processes, whatever their hash seed, chance and heap', { timeout: 120_000 }, async () => {
    const seeds = ['--first', '20', '--seeds', '4']
    const plain = await report([], seeds)
    const other = await report(['--hash-seed=77', '--random-seed=99', '--max-semi-space-size=2'], seeds)
    expect(plain).toMatchObject({ seeds: 4, failures: 0, firstFailure: null })
    expect(Object.keys(plain.traceHashes)).toHaveLength(4)
    expect(other.traceHashes).toEqual(plain.traceHashes)
    expect(new Set(Object.values(plain.traceHashes)).size).toBe(4)
    expect(plain.eventsPerSecond).toBeGreaterThan(0)
    for (const state of ['broker killed', 'power cut', 'connection lost']) {
      expect(plain.coverage[state], state).toBeGreaterThan(0)
    }
  })
})

describe('lives of the log store', () => {
  it('survive their crashes and repeat exactly', { timeout: 60_000 }, async () => {
    for (const seed of [1, 2, 3]) {
      const first = await liveThrough(seed)
      expect(first.failure).toBeNull()
      expect(first.images).toBeGreaterThan(3)
      expect((await liveThrough(seed)).traceHash).toBe(first.traceHash)
    }
  })
})

it('every mutant names the invariant that must catch it, and the program to look with', async () => {
  const mutants = await readMutants(fileURLToPath(new URL('../../sim/mutants', import.meta.url)))
  expect(mutants.length).toBeGreaterThanOrEqual(6)
  for (const { name, files, invariant } of mutants) {
    expect(invariant, name).toMatch(/^[a-z]+([- ][a-z]+)*$/)
    for (const file of files) expect(file, name).toMatch(/^packages\/(broker|client|protocol)\/src\/.+\.ts$/)
  }
})
