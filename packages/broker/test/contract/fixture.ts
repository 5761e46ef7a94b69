// What the parts of the contract suite need: one side per test, waiting in the side's own time, repeatable bytes.
import { afterEach, beforeEach } from 'vitest'
import type { Block, Environment } from '#src/environment.js'
import type { ContractSide, ContractSideFactory } from './contract-side.js'

export const MEMORY_BYTES = 64 * 1024 * 1024

/** The side of the running test. Making it per test shows leaks: closing must always settle. */
export function useSide(factory: ContractSideFactory): () => ContractSide {
  let side: ContractSide | null = null
  beforeEach(async () => {
    side = await factory({ memoryBytes: MEMORY_BYTES })
  })
  afterEach(async () => {
    await side?.close()
    side = null
  })
  return () => {
    if (side === null) throw new Error('no side outside a test')
    return side
  }
}

export function sleep(environment: Environment, delayMs: number): Promise<void> {
  return new Promise((resolve) => environment.clock.timer(delayMs, resolve))
}

/** Waits in the time of the environment until the condition holds; fails after ten of its seconds. */
export async function eventually(environment: Environment, what: string, holds: () => boolean): Promise<void> {
  const deadline = environment.clock.monotonicMs() + 10_000
  while (!holds()) {
    if (environment.clock.monotonicMs() > deadline) throw new Error(`never became true: ${what}`)
    await sleep(environment, 2)
  }
}

/** Bytes that differ everywhere, the same for the same seed. */
export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = (seed * 2654435761 + 12345) >>> 0
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[i] = state >>> 24
  }
  return bytes
}

export function mustAllocate(environment: Environment, byteLength: number): Block {
  const block = environment.memory.allocate(byteLength)
  if (block === null) throw new Error(`no memory for ${byteLength} bytes`)
  return block
}

/** Compares large arrays without printing them. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0
}

export function concatenate(chunks: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(chunks)
}
