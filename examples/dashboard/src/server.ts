// The page, and the counts as server-sent events to every browser that has it open.
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Observable } from 'rxjs'
import type { Counts } from './views.js'

const PAGE = `<!doctype html>
<meta charset="utf-8"><title>Views</title>
<style>body{font:16px system-ui;margin:3em}td{padding:.2em 1em}b{display:inline-block;background:#4a7;height:.8em}</style>
<h1><span id="total">0</span> views</h1><table id="pages"></table>
<script>
  new EventSource('/events').onmessage = ({ data }) => {
    const { total, pages } = JSON.parse(data)
    document.getElementById('total').textContent = total
    const rows = pages.map(({ page, views }) => {
      const row = document.createElement('tr')
      const bar = document.createElement('b')
      bar.style.width = (views / total) * 30 + 'em'
      for (const content of [page, views, bar]) row.insertCell().append(content)
      return row
    })
    document.getElementById('pages').replaceChildren(...rows)
  }
</script>
`

/** @param port 0 for one that is free. */
export async function serve(counts: Observable<Counts>, port: number): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    if (request.url !== '/events') {
      response.setHeader('content-type', 'text/html').end(PAGE)
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
    const subscription = counts.subscribe({
      next: (value) => {
        // A browser that does not keep up misses counts, not memory: the next one says everything.
        if (response.writableLength === 0) response.write(`data: ${JSON.stringify(value)}\n\n`)
      },
      error: (error: unknown) => response.destroy(error as Error),
      complete: () => response.end(),
    })
    response.on('close', () => subscription.unsubscribe())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}
