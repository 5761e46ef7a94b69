// Benches, fuzz targets and planted bugs do not rot: each bench can be run, each fuzz target finds nothing for a moment, and
// every mutant's patch still applies to the code it was made for.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT } from './repository.js'

const MUTANTS = 'packages/broker/sim/mutants'

interface Bench {
  readonly name: string
  readonly file: string
}

/** Runs one of the repository's runners on what is built. @returns its exit code, its output and its closing JSON. */
async function runner(
  script: string,
  args: readonly string[],
): Promise<{ code: unknown; text: string; closing: unknown }> {
  const child = spawn(process.execPath, [script, ...args, '--no-build', '--json'], { cwd: ROOT })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    errors += chunk
  })
  const [code] = await once(child, 'close')
  const text = output + errors
  const last = output.trimEnd().split('\n').at(-1) ?? ''
  return { code, text, closing: last.startsWith('{') ? JSON.parse(last) : null }
}

/** Names of files in a folder of every package, by their ending. */
function programs(folder: string, ending: string): readonly string[] {
  return readdirSync(join(ROOT, 'packages')).flatMap((name) => {
    const path = join(ROOT, 'packages', name, folder)
    return existsSync(path) ? readdirSync(path).filter((file) => file.endsWith(ending)) : []
  })
}

function applies(patch: string, cwd: string): boolean {
  return spawnSync('git', ['apply', '--check', patch], { cwd }).status === 0
}

describe('benches', () => {
  /** Packages whose own tests run their benches tiny; the others' are run here. */
  const TESTED_AT_HOME = ['packages/broker/', 'packages/native/']

  it('all can be found, each under a name of its own', { timeout: 240_000 }, async () => {
    const { code, text, closing } = await runner('.ci/bench.mjs', ['--list'])
    expect(code, text).toBe(0)
    const { benches } = closing as { benches: readonly Bench[] }
    expect(benches).toHaveLength(programs('bench', '.bench.ts').length)
    const away = benches.filter(({ file }) => !TESTED_AT_HOME.some((home) => file.startsWith(home)))
    expect(away.length).toBeGreaterThan(0)
    for (const { name } of away) {
      const run = await runner('.ci/bench.mjs', [name, '--tiny'])
      expect(run.code, run.text).toBe(0)
      expect(Object.keys(run.closing as object).length, name).toBeGreaterThan(1)
    }
  })

  it('that do not exist are an error', { timeout: 240_000 }, async () => {
    const { code, text } = await runner('.ci/bench.mjs', ['no-such-bench'])
    expect(code).toBe(2)
    expect(text).toContain('there are: ')
  })
})

describe('fuzz targets', () => {
  it('all run, and find nothing but the canary', { timeout: 240_000 }, async () => {
    const { code, text, closing } = await runner('.ci/fuzz.mjs', ['--seconds', '4'])
    expect(code, text).toBe(0)
    const { targets, canary } = closing as { targets: readonly { inputs: number }[]; canary: string }
    expect(canary).toBe('caught')
    expect(targets).toHaveLength(programs('fuzz', '.fuzz.ts').length - 1)
    for (const target of targets) expect(target.inputs).toBeGreaterThan(0)
  })

  it('replay what they found, by seed and iterations', { timeout: 240_000 }, async () => {
    const replay = async (): Promise<unknown> => {
      const run = await runner('.ci/fuzz.mjs', ['--target', 'canary', '--seed', '7', '--iterations', '1000'])
      expect(run.code, run.text).toBe(1)
      expect(run.text).toContain('replay: npm run fuzz -- --target canary --seed 7 --iterations 1000')
      return run.closing
    }
    expect(await replay()).toEqual(await replay())
  })
})

describe('mutants', () => {
  const patches = existsSync(join(ROOT, MUTANTS))
    ? readdirSync(join(ROOT, MUTANTS)).filter((name) => name.endsWith('.patch'))
    : []

  it('still apply', () => {
    expect(patches.filter((name) => !applies(join(ROOT, MUTANTS, name), ROOT))).toEqual([])
  })

  it('are noticed when they do not', () => {
    expect(applies(join(ROOT, 'package.json'), ROOT)).toBe(false)
  })
})
