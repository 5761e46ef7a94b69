// Runs seeds of consumer groups in clusters that are not well, and names what one of them breaks.
import { parseArgs } from 'node:util'
import { runGroupTrial } from './group-trial.js'
import type { SimulationResult } from './simulation-result.js'

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      first: { type: 'string', default: '1' },
      seeds: { type: 'string', default: '20' },
      json: { type: 'boolean', default: false },
      log: { type: 'boolean', default: false },
    },
  })
  const first = Number(values.first)
  const last = first + Number(values.seeds) - 1
  const onLog = values.log ? (line: string): void => console.log(line) : null
  const counts = new Map<string, number>()
  let broken: SimulationResult | null = null
  let seed = first
  for (; seed <= last && broken === null; seed++) {
    const result = await runGroupTrial(seed, { onLog, onTrace: null })
    for (const [name, count] of Object.entries(result.counts)) counts.set(name, (counts.get(name) ?? 0) + count)
    if (result.failures.length > 0) broken = result
  }
  for (const { invariant, message } of broken?.failures ?? [])
    console.log(`seed ${broken!.seed}: ${invariant}: ${message}`)
  const reached = [...counts].map(([name, count]) => `${name} ${count}`)
  console.log(`${seed - first} trials of groups, ${broken === null ? 'nothing' : 'one'} broken; ${reached.join(', ')}`)
  const firstFailure =
    broken === null
      ? null
      : {
          seed: broken.seed,
          invariant: broken.failures[0]!.invariant,
          invariants: broken.failures.map(({ invariant }) => invariant),
        }
  if (values.json) console.log(JSON.stringify({ name: 'group-trial', seeds: seed - first, firstFailure }))
  process.exitCode = broken === null ? 0 : 1
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 2
})
