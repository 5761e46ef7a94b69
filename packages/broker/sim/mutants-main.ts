// npm run mutants: plants one bug at a time in a copy of the product and demands that the simulator, the schedules of Raft, the
// histories of consumer groups, the lives of the log store or the crash harness catch each, by the invariant that its patch names. Caught only by another, or by a crash, is
// a miss.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Mutant, type MutantRunner, MutantTree, RUNNERS, readMutants } from './mutant-tree.js'

const USAGE = `npm run mutants -- [--seeds N] [--seconds S] [--only NAMES] [--runner R] [--workers W] [--json]

  --seeds N    seeds to try before a mutant counts as missed (400; lives of the store: ten times, schedules of Raft: 50 times, histories of groups: five times, crash states: 250 times)
  --seconds S  time for one mutant (120)
  --only NAMES  one mutant, or some with commas between them
  --runner R   only those that ${RUNNERS.join(', ')} is to catch
  --workers W  mutants at once (as many as there are cores)
  --json       end with one line of JSON`

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))

interface Program {
  readonly file: string
  readonly amount: string
  /** Of what it counts, for one seed of the simulator. */
  readonly perSeed: number
  readonly unit: string
}

const PROGRAMS: Readonly<Record<MutantRunner, Program>> = {
  sim: { file: 'main.js', amount: '--seeds', perSeed: 1, unit: 'seeds' },
  raft: { file: 'raft-schedules-main.js', amount: '--seeds', perSeed: 50, unit: 'schedules' },
  groups: { file: 'group-histories-main.js', amount: '--seeds', perSeed: 5, unit: 'histories' },
  'log-lives': { file: 'log-lives-main.js', amount: '--states', perSeed: 10, unit: 'images' },
  crash: { file: join('crash', 'main.js'), amount: '--states', perSeed: 250, unit: 'states' },
}

interface Verdict {
  readonly name: string
  readonly runner: MutantRunner
  readonly invariant: string
  readonly caught: boolean
  /** Seeds, crash images or crash states until then. */
  readonly after: number
  readonly seconds: number
  /** What else was found on the way, or why nothing was. */
  readonly also: readonly string[]
}

interface ProgramReport {
  readonly seeds?: number
  readonly states?: number
  /** Of all failures, where the program goes on until the right one. */
  readonly invariants?: readonly string[]
  readonly firstFailure: {
    readonly seed: number
    readonly invariants?: readonly string[]
    readonly invariant: string
  } | null
}

/** One program until its first failure (the crash harness: until the right one), or to its end, or out of time. */
async function runProgram(
  tree: MutantTree,
  mutant: Mutant,
  first: number,
  count: number,
  ms: number,
): Promise<ProgramReport | string> {
  const { file, amount } = PROGRAMS[mutant.runner]
  const args = [join(tree.root, 'packages', 'broker', 'dist-dev', 'sim', file), '--first', String(first)]
  args.push(amount, String(count), '--json')
  if (mutant.runner === 'crash') args.push('--until', mutant.invariant)
  if (mutant.focus !== null) args.push('--focus', mutant.focus)
  // Whoever is stopped must not leave others running.
  if (mutant.runner === 'crash' || mutant.runner === 'sim') args.push('--workers', '1')
  const child = spawn(process.execPath, args, { cwd: tree.root, stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  let late = false
  const timer = setTimeout(() => {
    late = true
    child.kill()
  }, ms)
  await once(child, 'close')
  clearTimeout(timer)
  if (late) return 'out of time'
  const last = output.trimEnd().split('\n').at(-1) ?? ''
  return last.startsWith('{') ? (JSON.parse(last) as ProgramReport) : 'the program ended without a report'
}

interface Limits {
  readonly seeds: number
  readonly seconds: number
}

/** Goes on after failures by other invariants: the right one may need another seed. */
async function judge(tree: MutantTree, mutant: Mutant, limits: Limits): Promise<Verdict> {
  const { name, runner, invariant } = mutant
  const begunAt = performance.now()
  const most = limits.seeds * PROGRAMS[runner].perSeed
  const also = new Set<string>()
  let after = 0
  const verdict = (caught: boolean): Verdict => {
    const seconds = Math.round((performance.now() - begunAt) / 100) / 10
    return { name, runner, invariant, caught, after, seconds, also: [...also] }
  }
  for (let first = runner === 'crash' ? 0 : 1; after < most; ) {
    const ms = Math.max(1, limits.seconds * 1000 - (performance.now() - begunAt))
    const report = await runProgram(tree, mutant, first, most - after, ms)
    if (typeof report === 'string') {
      also.add(report)
      return verdict(false)
    }
    after += report.seeds ?? report.states ?? 0
    const failure = report.firstFailure
    if (failure === null) break
    const invariants = report.invariants ?? failure.invariants ?? [failure.invariant]
    for (const other of invariants) if (other !== invariant) also.add(other)
    if (invariants.includes(invariant)) return verdict(true)
    if (runner === 'crash') break
    first = failure.seed + 1
  }
  return verdict(false)
}

/** Every worker has a tree of its own and takes the next mutant when it is done with one. */
async function judgeAll(mutants: readonly Mutant[], workers: number, limits: Limits): Promise<Verdict[]> {
  const left = [...mutants]
  const verdicts: Verdict[] = []
  const work = async (): Promise<void> => {
    const tree = await MutantTree.make(ROOT)
    try {
      for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) {
        await tree.apply(mutant)
        const verdict = await judge(tree, mutant, limits)
        await tree.revert(mutant)
        verdicts.push(verdict)
        console.log(`${verdict.caught ? 'caught' : 'MISSED'} ${verdict.name} (${verdict.seconds} s)`)
      }
    } finally {
      await tree.remove()
    }
  }
  await Promise.all(Array.from({ length: Math.min(workers, mutants.length) }, work))
  return verdicts.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function printTable(verdicts: readonly Verdict[]): void {
  const rows = verdicts.map(({ name, invariant, runner, caught, after, also }) => {
    const found = `${caught ? 'caught' : 'MISSED'} after ${after} ${PROGRAMS[runner].unit}`
    return [name, invariant, found, also.length === 0 ? '' : `also: ${also.join(', ')}`]
  })
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  console.log('')
  for (const row of rows)
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '400' },
      seconds: { type: 'string', default: '120' },
      workers: { type: 'string', default: String(availableParallelism()) },
      only: { type: 'string' },
      runner: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const limits = { seeds: positive('--seeds', values.seeds), seconds: positive('--seconds', values.seconds) }
  const all = await readMutants(join(ROOT, 'packages', 'broker', 'sim', 'mutants'))
  const named = values.only?.split(',')
  const mutants = all.filter(
    ({ name, runner }) => named?.includes(name) !== false && runner === (values.runner ?? runner),
  )
  if (mutants.length === 0) throw new Error(`no such mutant; there are ${all.map(({ name }) => name).join(', ')}`)
  const verdicts = await judgeAll(mutants, positive('--workers', values.workers), limits)
  const missed = verdicts.filter(({ caught }) => !caught).length
  printTable(verdicts)
  console.log(`\n${verdicts.length} mutants, ${missed} missed`)
  if (values.json) console.log(JSON.stringify({ name: 'mutants', mutants: verdicts, missed }))
  process.exitCode = missed > 0 ? 1 : 0
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${option} takes a whole number from 1, not ${text}`)
  return value
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.stack : error)
  process.exitCode = 2
})
