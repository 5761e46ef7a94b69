// A live dashboard: a broker, somebody who makes page views, and a page that counts them while it is looked at.
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { startTestCluster } from '@millrace/broker/testing'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { serve } from './server.js'
import { countsOf, Views, visit } from './views.js'

const { values } = parseArgs({ options: { port: { type: 'string' }, seconds: { type: 'string' } } })
const cluster = await startTestCluster({ brokers: 1 })
const mill = connect({ bootstrap: cluster.bootstrap })
const ending = new AbortController()
try {
  await admin(mill).createTopic(Views.name, { partitions: 4 })
  const { server, url } = await serve(countsOf(mill), Number(values.port ?? 0))
  console.log(`open ${url} in a browser; Ctrl-C ends`)
  const visits = visit(mill, ending.signal)
  const limitMs = values.seconds === undefined ? null : Number(values.seconds) * 1000
  await Promise.race([
    once(process, 'SIGINT'),
    once(process, 'SIGTERM'),
    ...(limitMs === null ? [] : [new Promise((resolve) => setTimeout(resolve, limitMs))]),
  ])
  ending.abort()
  await visits
  server.closeAllConnections()
  server.close()
} finally {
  await mill.close()
  await cluster.stop()
}
