// One process of npm run crash: is told trace numbers, answers with what searching each has shown.
import { searchTrace } from './crash-search.js'

/** One after the other: all recoveries of a process share their memory. */
let searching: Promise<void> = Promise.resolve()

async function search(trace: number): Promise<void> {
  try {
    process.send!(await searchTrace(trace))
  } catch (error) {
    process.stderr.write(`trace ${trace}: ${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(2)
  }
}

process.on('message', (trace: number) => {
  searching = searching.then(() => search(trace))
})
process.on('disconnect', () => process.exit(0))
