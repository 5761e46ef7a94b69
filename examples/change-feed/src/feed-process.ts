// The feed as a process, so that it can be killed: prints a line for each transaction.
import { connect } from '@millrace/client'
import { Balances } from './balances.js'
import { follow } from './feed.js'

const [bootstrap = 'localhost:7420', file = 'balances.sqlite'] = process.argv.slice(2)
// A machine that is busy may take its time.
const mill = connect({ bootstrap, wait: true })
const balances = await Balances.open(file)
try {
  await follow(mill, balances, (total) => console.log(total))
} finally {
  balances.close()
  await mill.close()
}
