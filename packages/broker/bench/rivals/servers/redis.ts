// Two Redis servers with an append-only file: one that flushes it every second, and one before each answer.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { ServerProgram } from '../software.js'
import { freePorts, startServer } from './server-process.js'
import { pair, type Systems } from './systems.js'

export function startRedis({ path, env }: ServerProgram, folder: string): Promise<Systems> {
  return pair(async (durability) => {
    const [port] = (await freePorts(1)) as [number]
    const home = join(folder, durability)
    mkdirSync(home, { recursive: true })
    const settings = {
      '--bind': '127.0.0.1',
      '--port': `${port}`,
      '--dir': home,
      '--appendonly': 'yes',
      '--appendfsync': durability === 'flushed' ? 'always' : 'everysec',
      // Neither snapshots nor rewrites of the file in the middle of somebody else's turn.
      '--save': '',
      '--auto-aof-rewrite-percentage': '0',
    }
    const words = Object.entries(settings).flat()
    const server = await startServer({ program: path, words, env, port, logFile: join(home, 'redis.log') })
    return { address: `127.0.0.1:${port}`, stop: () => server.stop() }
  })
}
