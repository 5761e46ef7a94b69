// Ports that nobody listens on at the moment, for local clusters whose members have to know each other beforehand.
import { createServer, type Server } from 'node:net'

/**
 * All different. Between this answer and their use another program may take one: the start then fails and says so.
 * @throws Error when the machine has none to give.
 */
export async function freePorts(host: string, count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => listening(host)))
  const ports = servers.map((server) => {
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a listener on TCP has no port')
    return address.port
  })
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

function listening(host: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port: 0 }, () => resolve(server))
  })
}
