// The options of the program.
import { parseArgs } from 'node:util'

export interface Options {
  readonly records: number
  readonly brokers: number
  readonly environment: 'auto' | 'ring' | 'portable'
  readonly json: boolean
}

const HELP = `Usage: npm start -- [options]

Starts brokers of its own, follows 20,000 real flights through it, then sends many more, kills a broker in the
middle, starts it again, and checks that no record was lost, duplicated or put out of order.

  --records N            records of the load  [2000000]
  --brokers N            a cluster of so many brokers, of which one that leads is killed  [1]
  --environment KIND     how the broker talks to the kernel: ring (io_uring), portable, or auto  [auto]
  --json                 one JSON object with all figures as the last line
  --help                 this page
`

/** Ends the program for --help, and with 2 for options it does not know. */
export function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        records: { type: 'string', default: '2000000' },
        brokers: { type: 'string', default: '1' },
        environment: { type: 'string', default: 'auto' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      process.stdout.write(HELP)
      process.exit(0)
    }
    const records = Number(values.records)
    if (!Number.isSafeInteger(records) || records < 1_000)
      throw new Error('--records needs a whole number from 1000 up')
    const brokers = Number(values.brokers)
    if (![1, 3, 5].includes(brokers)) throw new Error('--brokers is 1, 3 or 5')
    const environment = (['auto', 'ring', 'portable'] as const).find((kind) => kind === values.environment)
    if (environment === undefined) throw new Error(`--environment is auto, ring or portable, not ${values.environment}`)
    return { records, brokers, environment, json: values.json }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`)
    process.exit(2)
  }
}
