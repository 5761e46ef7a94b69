// A process of its own: reads everything of a topic through work that takes 100 ms, and tells what that costs.
// Arguments: bootstrap, topic, operator, milliseconds to run.
import { connect, processByKey, processByPartition, processEach } from '@millrace/client'

const [bootstrap, topic, operator, runMs] = process.argv.slice(2)
const operators = { processEach, processByKey, processByPartition }
const mill = connect({ bootstrap })
let done = 0
let maxRss = 0
const measure = setInterval(() => {
  maxRss = Math.max(maxRss, process.memoryUsage().rss)
}, 20)
const work = () => new Promise((resolve) => setTimeout(resolve, 100))
mill
  .consumer()
  .subscribe(topic, { from: 'earliest' })
  .pipe(operators[operator](work, { concurrency: 16 }))
  .subscribe(() => done++)
setTimeout(async () => {
  clearInterval(measure)
  await mill.close({ timeoutMs: 2_000 })
  process.stdout.write(JSON.stringify({ done, maxRss }))
}, Number(runMs))
