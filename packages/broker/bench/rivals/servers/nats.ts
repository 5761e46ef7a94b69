// Two NATS servers with JetStream: one with its default, which flushes every two minutes, and one that flushes each message
// before it acknowledges it.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ServerProgram } from '../software.js'
import { freePorts, startServer } from './server-process.js'
import { pair, type Systems } from './systems.js'

export function startNats({ path, env }: ServerProgram, folder: string): Promise<Systems> {
  return pair(async (durability) => {
    const [port] = (await freePorts(1)) as [number]
    const home = join(folder, durability)
    mkdirSync(home, { recursive: true })
    const settingsFile = join(home, 'nats.conf')
    const sync = durability === 'flushed' ? '  sync_interval: always\n' : ''
    writeFileSync(
      settingsFile,
      `listen: "127.0.0.1:${port}"\njetstream {\n  store_dir: "${join(home, 'data')}"\n${sync}}\n`,
    )
    const logFile = join(home, 'nats.log')
    const server = await startServer({ program: path, words: ['-c', settingsFile], env, port, logFile })
    return { address: `127.0.0.1:${port}`, stop: () => server.stop() }
  })
}
