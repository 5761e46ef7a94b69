// Ports that nobody listens on at the moment, for local clusters whose members have to know each other beforehand.
import { randomInt } from 'node:crypto'
import { createServer, type Server } from 'node:net'

/**
 * Below the range from which systems take the near end of connections (from 32768 on Linux, 49152 elsewhere): while a
 * broker is down, no connection can take its port.
 */
const FIRST = 10_240
const LAST = 32_767
const MOST_ATTEMPTS = 1_000

/**
 * All different. Between this answer and their use another program may take one: the start then fails and says so.
 * @throws Error when the machine has none to give.
 */
export async function freePorts(host: string, count: number): Promise<number[]> {
  const ports = new Set<number>()
  for (let attempt = 0; ports.size < count; attempt++) {
    const port = randomInt(FIRST, LAST + 1)
    const server = await listening(host, port)
    if (typeof server === 'string') {
      if (attempt >= MOST_ATTEMPTS) throw new Error(`no ${count} free ports on ${host}: ${server}`)
      continue
    }
    await new Promise((resolve) => server.close(resolve))
    ports.add(port)
  }
  return [...ports]
}

/** A listener, or why there can be none. */
function listening(host: string, port: number): Promise<Server | string> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (cause) => resolve(cause.message))
    server.listen({ host, port }, () => resolve(server))
  })
}
