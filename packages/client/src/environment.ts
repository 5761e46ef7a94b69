// What the client asks of the world: time, chance, a way to dial, compression and a place for warnings.
// The Node side is `links/node-environment.ts`; the simulator brings its own.
import type { SchedulerLike } from 'rxjs'

export interface ClientTimer {
  /** Harmless after the timer has fired. */
  cancel(): void
}

export interface LinkHandler {
  /** Connected; bytes may be written. */
  onOpen(): void
  /** Bytes arrived in order. The chunk belongs to the receiver from now on and is never reused. */
  onBytes(chunk: Uint8Array): void
  /**
   * Where the next bytes belong, if there is a place for them; null otherwise. A link that can receives them there and
   * says how many with `onFilled` instead of `onBytes`; it asks anew each time.
   */
  room?(): Uint8Array | null
  /** The next `byteLength` bytes stand at the beginning of what `room` returned last. */
  onFilled?(byteLength: number): void
  /** `unsentBytes` has fallen to zero after a write. */
  onDrain(): void
  /** Called once, last; also when the connection could not be opened. `error` is null after an orderly end. */
  onClosed(error: Error | null): void
}

/** One byte stream to a broker. Calls after it has closed are ignored. */
export interface Link {
  readonly unsentBytes: number
  /** Sends the chunks in order. They must not be changed until `unsentBytes` is back to zero. */
  write(chunks: readonly Uint8Array[]): void
  /** Stops and resumes reading; TCP carries the pressure to the broker. */
  pause(): void
  resume(): void
  /** Whether this link keeps the process alive. */
  ref(): void
  unref(): void
  /** Closes at once. */
  destroy(): void
}

export interface ClientCodec {
  gzip(bytes: Uint8Array): Uint8Array
  /** @throws when the result would exceed `maxBytes`: nothing larger is ever allocated. */
  gunzip(bytes: Uint8Array, maxBytes: number): Uint8Array
  /** Zstandard, where the platform has it: Node does from 22.15 and 23.8 on. */
  readonly zstd?: ZstdCodec | undefined
}

export interface ZstdCodec {
  compress(bytes: Uint8Array): Uint8Array
  /** @throws when the result would exceed `maxBytes`: nothing larger is ever allocated. */
  decompress(bytes: Uint8Array, maxBytes: number): Uint8Array
}

export interface ClientEnvironment {
  /** Milliseconds since an arbitrary moment, never going back. */
  monotonicMs(): number
  /** Milliseconds since 1970-01-01 UTC. */
  wallMs(): number
  /** `keepAlive` timers hold the process open, others do not. */
  timer(delayMs: number, callback: () => void, keepAlive?: boolean): ClientTimer
  /** Runs after the current input has been handled and before the process waits for more. */
  defer(callback: () => void): void
  /** A uniform number in [0, 1), for jitter. */
  random(): number
  /** Fills with bytes nobody can guess. */
  fillRandom(bytes: Uint8Array): void
  /** Opens a TCP connection; names are resolved anew on every dial. */
  dial(host: string, port: number, handler: LinkHandler): Link
  /** Memory for bytes that are about to arrive; it may hold anything. Zeroed memory where the platform has no other. */
  allocate?(byteLength: number): Uint8Array
  /** CRC-32 (IEEE) continued from `seed`. */
  checksum(bytes: Uint8Array, seed: number): number
  readonly codec: ClientCodec
  /** The scheduler every RxJS operator with time runs on. */
  readonly scheduler: SchedulerLike
  /** Called for each warning when the user gave no logger. */
  emitWarning(message: string, code: string): void
  /** Identity shown to brokers when the user gave none: host name and process id. */
  readonly defaultClientId: string
}
