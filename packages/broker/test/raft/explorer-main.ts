// node packages/broker/dist-dev/test/raft/explorer-main.js [--states N] [--seed S] [--slow] [--grow] [--all]: the states that three
// cores can get into, as many as are asked for; --all goes through them one after the other instead of walking at random.
import { parseArgs } from 'node:util'
import { type Bounds, Explorer, GROWING_BOUNDS, ISSUE_BOUNDS } from './explorer.js'

const { values } = parseArgs({
  options: {
    states: { type: 'string', default: '200000' },
    seed: { type: 'string', default: '1' },
    slow: { type: 'boolean', default: false },
    grow: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
  },
})

const bounds: Bounds = { ...(values.grow ? GROWING_BOUNDS : ISSUE_BOUNDS), slowDisks: values.slow }
const explorer = new Explorer(bounds, Number(values.seed))
try {
  const states = Number(values.states)
  const result = values.all ? explorer.explore(states) : explorer.sample(states)
  process.stdout.write(`${JSON.stringify(result)}\n`)
} catch (error) {
  process.stdout.write(`${explorer.path.join('\n')}\n${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
