// Finds and loads the compiled addon, and gives its entry points types. A failure to load is a value, not an exception.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What `ringOpen` answers: a ring whose offsets are in 32-bit words, or the call that the kernel refused. */
export interface OpenedRing {
  readonly handle: number
  readonly flags: number
  readonly features: number
  readonly ring: ArrayBuffer
  readonly sqes: ArrayBuffer
  readonly control: ArrayBuffer
  readonly sqHead: number
  readonly sqTail: number
  readonly sqFlags: number
  readonly sqEntries: number
  readonly cqHead: number
  readonly cqTail: number
  readonly cqOverflow: number
  readonly cqEntries: number
  readonly cqes: number
}

export interface RefusedCall {
  readonly call: string
  readonly errno: number
}

export interface OpenedArena {
  readonly handle: number
  /** Exact as a number: user addresses have 47 bits. */
  readonly address: number
  readonly buffer: ArrayBuffer
}

export interface FileSystemFacts {
  /** The magic number of `statfs`. */
  readonly type: number
  readonly blockBytes: number
  readonly freeBytes: number
  readonly totalBytes: number
  readonly deviceMajor: number
  readonly deviceMinor: number
}

/** See cpp/kernel-features.h. */
export interface RawKernelFeatures {
  readonly release: string
  readonly lockedMemoryBytes: number
  readonly externalBuffers: boolean
  readonly disabledBySysctl: number | null
  readonly checksum: string
  readonly setup: RefusedCall | null
  readonly setupFlags?: number
  readonly features?: number
  readonly missingOperations?: readonly string[]
  readonly bufferRing?: number
  readonly fixedBuffers?: number
}

/** The entry points of the addon; the header files in cpp/ say what each does. Negative answers are errnos. */
export interface Binding {
  arenaClose(arena: number): boolean
  arenaOpen(bytes: number, ring: number): OpenedArena
  checksum(arena: number, offset: number, length: number, seed: number): number
  checksumBytes(bytes: Uint8Array, seed: number): number
  checksumBytesWith(method: string, bytes: Uint8Array, seed: number): number | undefined
  copyWithChecksum(
    targetArena: number,
    targetOffset: number,
    sourceArena: number,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number
  descriptorClose(descriptor: number): number
  fileLock(descriptor: number): number
  fileOpen(path: string, flags: number, mode: number): number
  fileSystem(descriptor: number): FileSystemFacts | number
  fileSystemSync(descriptor: number, done: (result: number) => void): void
  kernelFeatures(): RawKernelFeatures
  layout(): Readonly<Record<string, number>>
  ringClose(ring: number, waitMs: number): number
  ringEnter(ring: number, submit: number, minComplete: number, flags: number): number
  ringOpen(entries: number, completions: number, allowedFlags: number): OpenedRing | RefusedCall
  ringReference(ring: number): void
  ringRegisterBuffer(ring: number, slot: number, arena: number): number
  ringRegisterBufferRing(ring: number, group: number, entries: number, arena: number, offset: number): number
  ringRegisterBufferTable(ring: number, slots: number): number
  ringStart(ring: number, turn: (woken: boolean) => void): void
  socketDial(address: string, port: number, arena: number, offset: number): number
  socketListen(address: string, port: number, backlog: number): { descriptor: number; port: number } | number
  socketPeer(descriptor: number): string
  socketShutdown(descriptor: number, how: number): number
}

export type LoadResult =
  | { readonly loaded: true; readonly binding: Binding; readonly path: string }
  | { readonly loaded: false; readonly reason: string; readonly hint: string }

const FILE = 'millrace_native.node'
let result: LoadResult | null = null

/** The addon, loaded at the first call; the same answer ever after. Never throws. */
export function loadBinding(): LoadResult {
  result ??= load()
  return result
}

/** @throws Error when the addon is not there: only for callers that have asked `loadBinding` before. */
export function binding(): Binding {
  const loaded = loadBinding()
  if (!loaded.loaded) throw new Error(`the native addon is not loaded: ${loaded.reason}`)
  return loaded.binding
}

function load(): LoadResult {
  if (process.platform !== 'linux') {
    return { loaded: false, reason: `io_uring needs Linux, this is ${process.platform}`, hint: 'run brokers on Linux' }
  }
  const root = dirname(dirname(fileURLToPath(import.meta.url)))
  const variant = process.env.MILLRACE_NATIVE_SANITIZE
  const candidates =
    variant === undefined
      ? [join(root, 'build/Release', FILE), join(root, `prebuilds/linux-${process.arch}`, FILE)]
      : [join(root, `build/sanitize-${variant}`, FILE)]
  const path = candidates.find((candidate) => existsSync(candidate))
  if (path === undefined) {
    const hint = 'build it with `npm run build` in the repository (needs g++, make and python3)'
    return { loaded: false, reason: `the addon is not built for linux-${process.arch}`, hint }
  }
  try {
    const loaded: Binding = createRequire(import.meta.url)(path)
    return { loaded: true, binding: loaded, path }
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause)
    const hint = 'build it again for this version of Node and this machine'
    return { loaded: false, reason: `the addon does not load: ${words}`, hint }
  }
}
