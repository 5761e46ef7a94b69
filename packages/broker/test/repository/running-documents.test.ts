// The programs that a page marks with `ts run` run against a broker and print what the page says.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { startTestCluster } from '@millrace/broker/testing'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { afterAll, expect, test } from 'vitest'
import { documents, fences, runningPrograms, transpiled } from './documentation.js'
import { ROOT, readRepository } from './repository.js'

/** What a reader of the guide has made when it comes to its programs. */
const TOPIC = { name: 'orders', partitions: 6 }
const LIMIT_MS = 30_000

const programs = documents(readRepository()).flatMap((file) => runningPrograms(fences(file)))
// Inside the repository, so that its packages are found as a user's project finds them.
const cache = join(ROOT, 'node_modules', '.cache')
mkdirSync(cache, { recursive: true })
const scratch = mkdtempSync(join(cache, 'millrace-documents-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

test.each(programs.map((running) => [`${running.program.path}:${running.program.line}`, running] as const))(
  '%s',
  async (name, { program, output }) => {
    const cluster = await startTestCluster({ brokers: 1 })
    try {
      const mill = connect({ bootstrap: cluster.bootstrap })
      await admin(mill).createTopic(TOPIC.name, { partitions: TOPIC.partitions })
      await mill.close()
      const file = join(scratch, `${name.replaceAll(/\W/g, '-')}.mjs`)
      writeFileSync(file, transpiled(program).replaceAll('localhost:7420', cluster.bootstrap))
      const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'], timeout: LIMIT_MS })
      const [printed, errors, [code]] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, 'close'),
      ])
      expect(`${errors}exit code ${code}`).toBe('exit code 0')
      if (output !== null) expect(printed).toBe(output)
    } finally {
      await cluster.stop()
    }
  },
)
