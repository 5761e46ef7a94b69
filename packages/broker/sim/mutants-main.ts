// npm run mutants: plants one bug at a time in a copy of the product and demands that the simulator catches each, by
// the invariant that its patch names. Caught only by another, or by a crash, is a miss.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Mutant, MutantTree, readMutants } from './mutant-tree.js'

const USAGE = `npm run mutants -- [--seeds N] [--only NAME] [--json]

  --seeds N    seeds to try before a mutant counts as missed (400; crash images: ten times that)
  --only NAME  one mutant
  --json       end with one line of JSON`

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))

interface Verdict {
  readonly name: string
  readonly invariant: string
  readonly caught: boolean
  /** Seeds or crash images until then. */
  readonly after: number
  /** What else was found on the way, or why nothing was. */
  readonly also: readonly string[]
}

interface ProgramReport {
  readonly seeds?: number
  readonly states?: number
  readonly firstFailure: {
    readonly seed: number
    readonly invariants?: readonly string[]
    readonly invariant: string
  } | null
}

/** One program until its first failure, or to its end. Null when it ended without a report. */
async function runProgram(
  tree: MutantTree,
  mutant: Mutant,
  first: number,
  count: number,
): Promise<ProgramReport | null> {
  const amount = mutant.runner === 'sim' ? '--seeds' : '--states'
  const program = join(
    tree.root,
    'packages',
    'broker',
    'dist-dev',
    'sim',
    mutant.runner === 'sim' ? 'main.js' : 'log-lives-main.js',
  )
  const args = [program, '--first', String(first), amount, String(count), '--json']
  const child = spawn(process.execPath, args, { cwd: tree.root, stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  await once(child, 'close')
  const last = output.trimEnd().split('\n').at(-1) ?? ''
  return last.startsWith('{') ? (JSON.parse(last) as ProgramReport) : null
}

/** Goes on after failures by other invariants: the right one may need another seed. */
async function judge(tree: MutantTree, mutant: Mutant, limit: number): Promise<Verdict> {
  const also = new Set<string>()
  let first = 1
  let tried = 0
  while (tried < limit) {
    const report = await runProgram(tree, mutant, first, limit - tried)
    if (report === null) return verdict(mutant, false, tried, [...also, 'the program ended without a report'])
    tried += report.seeds ?? report.states ?? 0
    const failure = report.firstFailure
    if (failure === null) break
    const invariants = failure.invariants ?? [failure.invariant]
    if (invariants.includes(mutant.invariant)) return verdict(mutant, true, tried, [...also])
    for (const invariant of invariants) also.add(invariant)
    first = failure.seed + 1
  }
  return verdict(mutant, false, tried, [...also])
}

function verdict(mutant: Mutant, caught: boolean, after: number, also: readonly string[]): Verdict {
  return { name: mutant.name, invariant: mutant.invariant, caught, after, also }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '400' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const seeds = Number(values.seeds)
  if (!Number.isSafeInteger(seeds) || seeds < 1) throw new Error(`--seeds takes a whole number, not ${values.seeds}`)
  const all = await readMutants(join(ROOT, 'packages', 'broker', 'sim', 'mutants'))
  const mutants = all.filter(({ name }) => values.only === undefined || name === values.only)
  if (mutants.length === 0)
    throw new Error(`no mutant ${values.only ?? ''}; there are ${all.map(({ name }) => name).join(', ')}`)
  const tree = await MutantTree.make(ROOT)
  const verdicts: Verdict[] = []
  try {
    for (const mutant of mutants) {
      await tree.apply(mutant)
      const result = await judge(tree, mutant, mutant.runner === 'sim' ? seeds : seeds * 10)
      await tree.revert(mutant)
      verdicts.push(result)
      const also = result.also.length === 0 ? '' : ` (also: ${result.also.join(', ')})`
      console.log(
        `${result.caught ? 'caught' : 'MISSED'} ${mutant.name} by ${mutant.invariant} after ${result.after}${also}`,
      )
    }
  } finally {
    await tree.remove()
  }
  const missed = verdicts.filter(({ caught }) => !caught).length
  console.log(`${verdicts.length} mutants, ${missed} missed`)
  if (values.json) console.log(JSON.stringify({ name: 'mutants', mutants: verdicts, missed }))
  process.exitCode = missed > 0 ? 1 : 0
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.stack : error)
  process.exitCode = 2
})
