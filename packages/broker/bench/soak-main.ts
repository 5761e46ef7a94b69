// The command `npm run soak`: shows the broker's memory as it goes, and fails when it is not flat.
import { exitCodeOf, optionValues, preferenceOf, WrongUse } from './support/command.js'
import { soak } from './support/soak.js'

const USAGE =
  'npm run soak -- [--minutes N] [--mb-per-second N] [--memory-mb N] [--environment ring|portable|auto] [--json]'
/** Lines of progress: one in so many samples. */
const SHOWN_EVERY = 10

const options = {
  minutes: { type: 'string', default: '15' },
  'mb-per-second': { type: 'string', default: '8' },
  'memory-mb': { type: 'string', default: '256' },
  environment: { type: 'string', default: 'auto' },
  json: { type: 'boolean', default: false },
} as const

process.exitCode = await exitCodeOf(USAGE, main)

async function main(): Promise<number> {
  const values = optionValues(options)
  const minutes = Number(values.minutes)
  const bytesPerSecond = Number(values['mb-per-second']) * 1e6
  const memoryMb = Number(values['memory-mb'])
  const prefer = preferenceOf(values.environment)
  if (!(minutes > 0) || !(bytesPerSecond > 0) || !(memoryMb > 0)) throw new WrongUse('numbers have to be above zero')
  let samples = 0
  const onSample = (seconds: number, mb: number): void => {
    if (samples++ % SHOWN_EVERY === 0) console.log(`${seconds.toFixed(0).padStart(6)} s  ${mb.toFixed(1)} MB`)
  }
  const result = await soak({ minutes, bytesPerSecond, memoryMb, prefer, onSample })
  for (const [key, value] of Object.entries(result)) console.log(`  ${key.padEnd(26)}${String(value)}`)
  if (values.json) console.log(JSON.stringify(result))
  return result.ok ? 0 : 1
}
