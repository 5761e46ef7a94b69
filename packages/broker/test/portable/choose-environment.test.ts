// The choice of environment: what is taken, and that the log says why and what would change it.
import { expect, it } from 'vitest'
import type { Environment } from '#src/environment.js'
import {
  chooseEnvironment,
  type EnvironmentPreference,
  type RingSide,
  type RingVerdict,
} from '#src/io/choose-environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'

const MEMORY_BYTES = 1024 * 1024
const SECCOMP = { reason: 'io_uring_setup is refused (EPERM)', hint: 'allow io_uring in the seccomp profile' }
const LOCKED = { reason: 'memory cannot be registered (ENOMEM)', hint: 'raise ulimit -l' }

async function choose(prefer: EnvironmentPreference, verdict: RingVerdict): Promise<{ kind: string; lines: string[] }> {
  const lines: string[] = []
  const logger = createConsoleLogger({ level: 'debug', format: 'json', write: (line) => lines.push(line) })
  const ringSide: RingSide = {
    probe: async () => verdict,
    create: async (options): Promise<Environment> => ({ ...createPortableEnvironment(options), kind: 'ring' }),
  }
  const environment = await chooseEnvironment({ prefer, memoryBytes: MEMORY_BYTES, logger }, ringSide)
  await environment.close()
  return { kind: environment.kind, lines }
}

it('takes the ring where it works', async () => {
  const { kind, lines } = await choose('auto', { ring: null, registeredMemory: null })
  expect(kind).toBe('ring')
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'info', environment: 'ring' })
  expect((await choose('ring', { ring: null, registeredMemory: null })).kind).toBe('ring')
})

it('says what it would take to register memory', async () => {
  const { kind, lines } = await choose('auto', { ring: null, registeredMemory: LOCKED })
  expect(kind).toBe('ring')
  expect(lines).toHaveLength(1)
  expect(lines[0]).toContain(LOCKED.reason)
  expect(lines[0]).toContain(LOCKED.hint)
})

it('falls back to the portable environment and says why', async () => {
  const { kind, lines } = await choose('auto', { ring: SECCOMP, registeredMemory: SECCOMP })
  expect(kind).toBe('portable')
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'warn', environment: 'portable', ...SECCOMP })
  expect(JSON.parse(lines[0]!).message).toContain(SECCOMP.hint)
})

it('does not fall back when the ring is required', async () => {
  await expect(choose('ring', { ring: SECCOMP, registeredMemory: SECCOMP })).rejects.toThrow(/EPERM.*seccomp/)
})

it('does not look for the ring when portable is asked for', async () => {
  const { kind, lines } = await choose('portable', { ring: null, registeredMemory: null })
  expect(kind).toBe('portable')
  expect(lines).toHaveLength(1)
})

it('probes this machine without failing', async () => {
  const logger = createConsoleLogger({ level: 'silent', format: 'json' })
  const environment = await chooseEnvironment({ prefer: 'auto', memoryBytes: 64 * MEMORY_BYTES, logger })
  expect(['ring', 'portable']).toContain(environment.kind)
  await environment.close()
})
