// Decides between io_uring and the portable environment, and says in one line which it is, why, and what would change it.
import type { Environment, Logger } from '../environment.js'
import { createPortableEnvironment } from './portable/portable-environment.js'

export type EnvironmentPreference = 'auto' | 'ring' | 'portable'

export interface ChooseEnvironmentOptions {
  /** `auto` takes the ring where it works; `ring` refuses to run without it; `portable` does not look for it. */
  readonly prefer: EnvironmentPreference
  readonly memoryBytes: number
  readonly logger: Logger
}

/** The ring was asked for and does not work here. */
export class EnvironmentUnavailableError extends Error {
  override readonly name = 'EnvironmentUnavailableError'
}

/** Why something is not to be had, and what would change that. */
export interface Shortcoming {
  readonly reason: string
  readonly hint: string
}

/** What `probe` finds out; null is "works". */
export interface RingVerdict {
  readonly ring: Shortcoming | null
  /** Without registered memory the ring works and costs more CPU per byte. */
  readonly registeredMemory: Shortcoming | null
}

/**
 * The ring side is imported only when it is wanted: the package with the addon is optional, and absent where it could
 * not be built.
 */
export interface RingSide {
  probe(): Promise<RingVerdict>
  create(options: { readonly memoryBytes: number; readonly logger: Logger }): Promise<Environment>
}

/**
 * @param ringSide is given by tests only.
 * @throws EnvironmentUnavailableError when `prefer` is `ring` and the ring does not work.
 */
export async function chooseEnvironment(
  options: ChooseEnvironmentOptions,
  ringSide: RingSide = realRingSide,
): Promise<Environment> {
  const { prefer, memoryBytes, logger } = options
  if (prefer === 'portable') {
    logger.info({ environment: 'portable' }, 'environment: portable (node:fs and node:net), as configured')
    return createPortableEnvironment({ memoryBytes, logger })
  }
  const { ring, registeredMemory } = await ringSide.probe()
  if (ring === null) {
    const environment = await ringSide.create({ memoryBytes, logger })
    logger.info(
      { environment: 'ring', ...(registeredMemory === null ? {} : { unregistered: registeredMemory }) },
      registeredMemory === null
        ? 'environment: ring (io_uring)'
        : `environment: ring (io_uring), memory not registered: ${registeredMemory.reason}; to change it: ${registeredMemory.hint}`,
    )
    return environment
  }
  if (prefer === 'ring') {
    throw new EnvironmentUnavailableError(`io_uring is required and does not work: ${ring.reason}; ${ring.hint}`)
  }
  logger.warn(
    { environment: 'portable', ...ring },
    `environment: portable (node:fs and node:net), because ${ring.reason}; to change it: ${ring.hint}`,
  )
  return createPortableEnvironment({ memoryBytes, logger })
}

const realRingSide: RingSide = {
  async probe() {
    const found = await importOrReason(() => import('./ring/ring-probe.js'))
    if ('reason' in found) return { ring: found, registeredMemory: null }
    const { ring, fixedBuffers } = found.module.probeRing()
    return {
      ring: ring.available ? null : { reason: ring.reason, hint: ring.hint },
      registeredMemory: fixedBuffers.available ? null : { reason: fixedBuffers.reason, hint: fixedBuffers.hint },
    }
  },
  async create(options) {
    const { createRingEnvironment } = await import('./ring/ring-environment.js')
    return createRingEnvironment(options)
  },
}

async function importOrReason<M>(load: () => Promise<M>): Promise<{ readonly module: M } | Shortcoming> {
  try {
    return { module: await load() }
  } catch (cause) {
    return {
      reason: `the native package cannot be loaded (${cause instanceof Error ? cause.message : String(cause)})`,
      hint: 'install @millrace/native, with g++, make and python3 present so that the addon can be built',
    }
  }
}
