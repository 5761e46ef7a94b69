// The page is served, and its events count what is sent.
import { startTestCluster, type TestCluster } from '@millrace/broker/testing'
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { serve } from '../dist/server.js'
import { type Counts, countsOf, PAGES, Views, visit } from '../dist/views.js'

let cluster: TestCluster
let mill: Mill
beforeAll(async () => {
  cluster = await startTestCluster({ brokers: 1 })
  mill = connect({ bootstrap: cluster.bootstrap })
  await admin(mill).createTopic(Views.name, { partitions: 4 })
})
afterAll(async () => {
  await mill.close()
  await cluster.stop()
})

async function* eventsOf(response: Response): AsyncGenerator<Counts> {
  let text = ''
  for await (const bytes of response.body!) {
    text += Buffer.from(bytes).toString()
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      yield JSON.parse(text.slice('data: '.length, end)) as Counts
      text = text.slice(end + 2)
    }
  }
}

test('counts grow while a browser looks', async () => {
  const ending = new AbortController()
  const { server, url } = await serve(countsOf(mill, 20), 0)
  const visits = visit(mill, ending.signal, 2_000)
  try {
    expect(await (await fetch(url)).text()).toContain('EventSource')
    const seen: Counts[] = []
    for await (const counts of eventsOf(await fetch(`${url}/events`))) {
      seen.push(counts)
      if (seen.length === 5) break
    }
    const totals = seen.map(({ total }) => total)
    expect(totals).toEqual([...totals].sort((a, b) => a - b))
    expect(totals.at(-1)).toBeGreaterThan(totals[0]!)
    for (const { total, pages } of seen) {
      expect(pages.reduce((sum, { views }) => sum + views, 0)).toBe(total)
      expect(pages.every(({ page }) => PAGES.includes(page))).toBe(true)
    }
  } finally {
    ending.abort()
    await visits
    server.closeAllConnections()
    server.close()
  }
})
