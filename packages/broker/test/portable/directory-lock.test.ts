// The lock of a data directory: exclusive, past dead holders, never past a living one.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { DiskError } from '#src/environment.js'
import { acquireDirectoryLock, LOCK_FILE_NAME } from '#src/io/directory-lock.js'

const ON_LINUX = process.platform === 'linux'
let directory = ''
let path = ''

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-lock-'))
  path = join(directory, LOCK_FILE_NAME)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

async function refusal(): Promise<DiskError> {
  const outcome = await acquireDirectoryLock(directory).catch((cause: unknown) => cause)
  expect(outcome).toBeInstanceOf(DiskError)
  return outcome as DiskError
}

/** A lock file as its dead holder left it. */
async function leaveBehind(changes: object): Promise<void> {
  const lock = await acquireDirectoryLock(directory)
  const content = JSON.parse(await readFile(path, 'utf8')) as object
  await lock.release()
  await writeFile(path, JSON.stringify({ ...content, ...changes }))
}

it('is held by one at a time and leaves nothing behind', async () => {
  const lock = await acquireDirectoryLock(directory)
  const error = await refusal()
  expect(error.code).toBe('LOCKED')
  expect(error.message).toContain(directory)
  expect(error.message).toContain(String(process.pid))
  await lock.release()
  await lock.release()
  await (await acquireDirectoryLock(directory)).release()
  expect(await readdir(directory)).toEqual([])
})

it('names a living holder, and takes over when it was killed', async () => {
  const script = join(directory, 'holder.mjs')
  const module = new URL('../../dist/io/directory-lock.js', import.meta.url).href
  await writeFile(
    script,
    `import { acquireDirectoryLock } from ${JSON.stringify(module)}
     await acquireDirectoryLock(process.argv[2])
     process.send('locked')
     setInterval(() => {}, 1000)`,
  )
  const child = fork(script, [directory], { execArgv: [] })
  await once(child, 'message')
  expect((await refusal()).message).toContain(`process ${child.pid}`)
  child.kill('SIGKILL')
  await once(child, 'exit')
  await (await acquireDirectoryLock(directory)).release()
})

it.runIf(ON_LINUX)('sees through a reused process id and a restart of the machine', async () => {
  await leaveBehind({ pid: process.ppid, startTicks: '1' })
  await (await acquireDirectoryLock(directory)).release()
  await leaveBehind({ bootId: '00000000-0000-0000-0000-000000000000' })
  await (await acquireDirectoryLock(directory)).release()
})

it('respects a lock file it cannot read', async () => {
  for (const content of ['', '{', '{"pid":-1,"nonce":"a"}', '[]', 'null', '12']) {
    await writeFile(path, content)
    const error = await refusal()
    expect(error.code).toBe('LOCKED')
    expect(error.message).toContain(path)
  }
})

it('does not remove the lock of somebody else on release', async () => {
  const lock = await acquireDirectoryLock(directory)
  await rm(path)
  const other = await acquireDirectoryLock(directory)
  await lock.release()
  expect((await refusal()).code).toBe('LOCKED')
  await other.release()
})

it('lets exactly one of many take over a stale lock', async () => {
  for (let round = 0; round < 25; round++) {
    await leaveBehind({ pid: 2 ** 22 - 3, startTicks: '1', nonce: `dead-${round}` })
    const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => acquireDirectoryLock(directory)))
    const winners = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    expect(winners).toHaveLength(1)
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'LOCKED' })
    }
    await winners[0]?.value.release()
  }
  expect(await readdir(directory)).toEqual([])
})
