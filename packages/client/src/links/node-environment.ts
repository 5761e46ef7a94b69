// The Node side of the client's environment: clock, timers, sockets, checksum and compression of the platform.
import { randomFillSync } from 'node:crypto'
import { hostname } from 'node:os'
import * as zlib from 'node:zlib'
import { type ChecksumFunction, crc32 } from '@millrace/protocol'
import type { ClientEnvironment, ClientTimer, ZstdCodec } from '../environment.js'
import { asyncScheduler } from '../streams/scheduler.js'
import { dialTcp, plain } from './tcp-link.js'

/** Node has it from 20.15 and 22.2 on. */
const { crc32: platformCrc32 } = zlib as { readonly crc32?: ChecksumFunction }

interface ZlibWithZstd {
  readonly zstdCompressSync?: (bytes: Uint8Array) => Buffer
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: object) => Buffer
  readonly constants: object
}

/** No batch decodes to more than 2^24 bytes, so that none needs a larger window, whatever its frame asks for. */
const ZSTD_WINDOW_LOG = 24

/** Undefined where the runtime has no zstd: Node has it from 22.15 and 23.8 on. */
export function zstdOf({ zstdCompressSync, zstdDecompressSync, constants }: ZlibWithZstd): ZstdCodec | undefined {
  const windowLogMax: unknown = Reflect.get(constants, 'ZSTD_d_windowLogMax')
  if (zstdCompressSync === undefined || zstdDecompressSync === undefined || typeof windowLogMax !== 'number') return
  const params = { [windowLogMax]: ZSTD_WINDOW_LOG }
  return {
    compress: (bytes) => plain(zstdCompressSync(bytes)),
    decompress: (bytes, maxBytes) =>
      plain(zstdDecompressSync(bytes, { params, maxOutputLength: Math.max(1, maxBytes) })),
  }
}

/** Memory for a frame, not zeroed: every byte of it is received. */
const frameMemory = (byteLength: number): Uint8Array => plain(Buffer.allocUnsafeSlow(byteLength))

class NodeTimer implements ClientTimer {
  readonly #timeout: NodeJS.Timeout

  constructor(delayMs: number, callback: () => void, keepAlive: boolean) {
    this.#timeout = setTimeout(callback, delayMs)
    if (!keepAlive) this.#timeout.unref()
  }

  cancel(): void {
    clearTimeout(this.#timeout)
  }
}

export function nodeEnvironment(): ClientEnvironment {
  return {
    monotonicMs: () => performance.now(),
    wallMs: () => Date.now(),
    timer: (delayMs, callback, keepAlive = false) => new NodeTimer(delayMs, callback, keepAlive),
    defer: (callback) => {
      setImmediate(callback)
    },
    random: () => Math.random(),
    fillRandom: (bytes) => {
      randomFillSync(bytes)
    },
    dial: dialTcp,
    allocate: frameMemory,
    checksum: platformCrc32 ?? crc32,
    codec: {
      gzip: (bytes) => plain(zlib.gzipSync(bytes)),
      gunzip: (bytes, maxBytes) => plain(zlib.gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) })),
      zstd: zstdOf(zlib),
    },
    scheduler: asyncScheduler,
    emitWarning: (message, code) => process.emitWarning(message, { type: 'MillraceWarning', code }),
    defaultClientId: `millrace-${hostname()}-${process.pid}`,
  }
}
