// The one door to the world: everything the broker may ask of it is an interface in this file.
// Real sides live in `io/` (ring and portable), the simulated side in `sim/`; one contract suite holds them equal.

/** Which set of sides is in use. `ring` is io_uring, `portable` is node:fs and node:net. */
export type EnvironmentKind = 'ring' | 'portable' | 'simulated'

export interface Environment {
  readonly kind: EnvironmentKind
  readonly clock: Clock
  readonly random: Random
  readonly memory: Memory
  readonly disk: Disk
  readonly network: Network
  readonly crypto: Crypto
  readonly cores: Cores
  readonly log: Logger
  /**
   * Names this run of the machine's kernel: another one than before means that the machine was without power, or was
   * restarted, in between. Where the system has none, it is new for each process.
   */
  readonly bootId: string
  /** Ends the environment after the broker has closed its volumes and listeners. Always settles. */
  close(): Promise<void>
}

// ---------------------------------------------------------------- time, chance, words

export interface Timer {
  /** Harmless after the timer has fired. */
  cancel(): void
}

export interface Clock {
  /** Milliseconds since an arbitrary moment, never going back, with a fraction. For every interval and deadline. */
  monotonicMs(): number
  /** Milliseconds since 1970-01-01 UTC, an integer. For record timestamps only; it may jump. */
  wallMs(): number
  /** Calls back once, not before `delayMs` have passed. Timers alone do not keep a process alive. */
  timer(delayMs: number, callback: () => void): Timer
  /**
   * Calls back once, after the input that is at hand has been handled and before the environment waits for more.
   * Group commit and reply flushing hang here: work of one turn leaves in one piece.
   */
  defer(callback: () => void): void
}

export interface Random {
  /** A uniform integer in [0, 2^32). */
  uint32(): number
  /** Fills with bytes that nobody can guess (identities, producer ids). */
  fill(bytes: Uint8Array): void
}

/** AES-256-GCM (NIST SP 800-38D). */
export interface Crypto {
  /**
   * What `plain` is under a key, followed by a tag of 16 bytes that vouches for it and for `additional`.
   * @param key 32 bytes. @param nonce 12 bytes, never the same again under this key: else both messages are open.
   */
  seal(key: Uint8Array, nonce: Uint8Array, additional: Uint8Array, plain: Uint8Array): Uint8Array
  /** What was sealed, or null when it was not sealed with this key, nonce and `additional`, or was changed since. */
  open(key: Uint8Array, nonce: Uint8Array, additional: Uint8Array, sealed: Uint8Array): Uint8Array | null
}

export type LogFields = Readonly<Record<string, unknown>>

export interface Logger {
  debug(fields: LogFields, message: string): void
  info(fields: LogFields, message: string): void
  warn(fields: LogFields, message: string): void
  error(fields: LogFields, message: string): void
}

/** Messages between shards. With one shard there is nobody to write to; `count` is 1 and `self` is 0. */
export interface Cores {
  readonly self: number
  readonly count: number
}

// ---------------------------------------------------------------- memory

/**
 * A block of memory the kernel may read and write: page-aligned, never moved, owned by the environment.
 * `bytes` and `view` cover exactly the block and are made once, so that hot paths allocate nothing.
 */
export interface Block {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly byteLength: number
}

export interface Memory {
  /** Bytes this environment may hand out in blocks altogether. */
  readonly budgetBytes: number
  /** Bytes handed out and not yet released. */
  readonly usedBytes: number
  /**
   * A block of at least `byteLength` bytes (rounded up to a size class, a multiple of 4,096), or null when the budget
   * is used up: the caller then waits, refuses or evicts. Contents are undefined.
   */
  allocate(byteLength: number): Block | null
  /**
   * Gives a block back. Invariant: no operation of this environment still uses it. Releasing twice, or a foreign
   * block, is an assertion failure.
   */
  release(block: Block): void
  /** CRC-32 (IEEE) of `length` bytes of `block` from `offset`, continued from `seed` (0 to begin). */
  checksum(block: Block, offset: number, length: number, seed: number): number
  /** Copies and computes the CRC-32 of what was copied, touching each byte once. Ranges must not overlap. */
  copyWithChecksum(
    target: Block,
    targetOffset: number,
    source: Block,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number
}

// ---------------------------------------------------------------- disk

/** What went wrong on the disk, by name: everything the broker tells apart. */
export type DiskErrorCode =
  | 'NOT_FOUND'
  | 'EXISTS'
  | 'NO_SPACE'
  | 'READ_ONLY'
  | 'PERMISSION'
  | 'INPUT_OUTPUT'
  | 'LOCKED'
  | 'NO_DIRECT_IO'
  | 'CLOSED'
  | 'OTHER'

export class DiskError extends Error {
  override readonly name = 'DiskError'
  constructor(
    readonly code: DiskErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

/** Every position and length in direct I/O is a multiple of this. A constant of the disk format. */
export const BLOCK_BYTES = 4096

export interface VolumeOptions {
  /** Refuse with NO_DIRECT_IO instead of falling back to buffered I/O with a sync. */
  readonly requireDirect: boolean
}

export interface Disk {
  /**
   * Opens a directory as a volume, making it (and parents) when missing, and locks it against other processes.
   * @throws DiskError LOCKED names the holder; NO_DIRECT_IO, PERMISSION, READ_ONLY, NO_SPACE.
   */
  openVolume(directory: string, options: VolumeOptions): Promise<Volume>
}

/** How a volume makes completed writes durable; chosen by a probe, shown by `doctor`. */
export type FlushMethod = 'device' | 'syncfs' | 'files'

/**
 * A directory of flat files on one file system. Names are plain (no slash).
 *
 * Durability contract, the same on all sides: bytes of a write are durable once a flush that was *submitted after the
 * write completed* has completed without error. Creation and removal of files are durable after `syncDirectory`.
 * After any failed write or flush the caller latches: a later successful flush proves nothing about earlier bytes.
 */
export interface Volume {
  readonly directory: string
  /** Whether reads and writes bypass the kernel's page cache. */
  readonly direct: boolean
  readonly flushMethod: FlushMethod
  /** Why the volume is not direct or not flushed by device, in words for the log; null when there is nothing to say. */
  readonly note: string | null
  list(): Promise<readonly { readonly name: string; readonly byteLength: number }[]>
  /** @throws DiskError NOT_FOUND without `create`; with `create` an existing file is opened as it is. */
  open(name: string, options?: { readonly create?: boolean }): Promise<DiskFile>
  remove(name: string): Promise<void>
  /** Makes creations, removals and renames in this directory durable. */
  syncDirectory(): Promise<void>
  /** Free and total bytes of the file system, as an unprivileged writer sees them. */
  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }>
  /**
   * One group flush: every completed write to the given files is durable when this resolves.
   * Only for files whose written extents existed before (pre-written slots); use `DiskFile.sync` after growth.
   */
  flush(files: readonly DiskFile[]): Promise<void>
  /** The same for files some of whose extents were never written before: like `sync` of each, and cheaper for many. */
  flushGrown(files: readonly DiskFile[]): Promise<void>
  /** The bytes of a small file (≤ 1 MiB), or null when it does not exist. Buffered; not for log data. */
  readSmall(name: string): Promise<Uint8Array | null>
  /** Replaces a small file by temporary file, sync, rename, directory sync: after a crash it is the old or the new. */
  writeSmall(name: string, bytes: Uint8Array): Promise<void>
  /** Closes every file still open, then unlocks. Waits for operations in flight. */
  close(): Promise<void>
}

export interface DiskFile {
  readonly name: string
  /** Reserves space without writing it. @throws DiskError NO_SPACE, and then nothing has changed. */
  allocate(byteLength: number): Promise<void>
  /**
   * Writes `length` bytes of `block` from `offset` to `position`; all multiples of BLOCK_BYTES. The block must stay
   * unchanged until this settles. Resolves only when all bytes are written; short writes are continued inside.
   */
  write(position: number, block: Block, offset: number, length: number): Promise<void>
  /** Reads into `block`; resolves with the bytes read, short only at the end of the file. Multiples of BLOCK_BYTES. */
  read(position: number, block: Block, offset: number, length: number): Promise<number>
  /** fdatasync of this file: completed writes and the file's size are durable. */
  sync(): Promise<void>
  /** Current size in bytes. */
  size(): Promise<number>
  close(): Promise<void>
}

// ---------------------------------------------------------------- network

export interface Network {
  /**
   * Listens on a TCP address. `port` 0 picks a free one. `accept` is called for each connection and returns the
   * handler of its events. @throws NetworkError ADDRESS_IN_USE, PERMISSION, BAD_ADDRESS.
   */
  listen(options: ListenOptions, accept: (stream: Stream) => StreamHandler): Promise<Listener>
  /**
   * Connects to a TCP address; a host name is looked up each time. `open` is called when connected, right before this
   * resolves, and returns the handler of the stream's events.
   * @throws NetworkError REFUSED: nobody listens there; TIMED_OUT: no answer within `timeoutMs`; UNREACHABLE: there is
   * no way to the host; BAD_ADDRESS; OTHER, also when the environment is closed meanwhile.
   */
  dial(options: DialOptions, open: (stream: Stream) => StreamHandler): Promise<void>
  /**
   * Binds a UDP address; `port` 0 picks a free one. `receive` is called for each datagram that arrives, with the address
   * it seems to come from, until the socket is closed.
   * @throws NetworkError ADDRESS_IN_USE, PERMISSION, BAD_ADDRESS.
   */
  datagrams(options: ListenOptions, receive: DatagramHandler): Promise<DatagramSocket>
}

/** A datagram that is not cut into pieces on its way through any network in use. */
export const MAX_DATAGRAM_BYTES = 1_400

/** `bytes` is valid only during the call. @param from a numeric address, which anybody can make up. */
export type DatagramHandler = (bytes: Uint8Array, from: { readonly host: string; readonly port: number }) => void

/** Any datagram may be lost, late, twice there, or overtaken by another. */
export interface DatagramSocket {
  readonly host: string
  readonly port: number
  /**
   * Sends a copy of `bytes`, at most MAX_DATAGRAM_BYTES; never fails, as nobody would hear of it if it were lost later. A
   * host name is looked up now and then, not for each datagram.
   */
  send(host: string, port: number, bytes: Uint8Array): void
  /** Ends delivery at once; what is sent afterwards is dropped. */
  close(): Promise<void>
}

export type NetworkErrorCode =
  | 'ADDRESS_IN_USE'
  | 'PERMISSION'
  | 'BAD_ADDRESS'
  | 'REFUSED'
  | 'TIMED_OUT'
  | 'UNREACHABLE'
  | 'RESET'
  | 'OTHER'

export class NetworkError extends Error {
  override readonly name = 'NetworkError'
  constructor(
    readonly code: NetworkErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

export interface ListenOptions {
  readonly host: string
  readonly port: number
}

export interface DialOptions {
  readonly host: string
  readonly port: number
  /** For everything together: looking the name up and connecting. */
  readonly timeoutMs: number
}

export interface Listener {
  readonly host: string
  readonly port: number
  /** Stops accepting. Connections already accepted live on. */
  close(): Promise<void>
}

export interface StreamHandler {
  /** Bytes arrived in order. `chunk` is valid only during the call and is always taken whole. */
  onBytes(chunk: Uint8Array): void
  /** The run asked for with `receiveInto` is complete. Called after the bytes before it were given to `onBytes`. */
  onFilled(): void
  /** Called once, last. No write's memory is in use any more. `error` is null after an orderly end by either side. */
  onClosed(error: Error | null): void
}

/** A connected byte stream. Nothing here throws after the stream is closed: calls are ignored, releases still run. */
export interface Stream {
  readonly peer: string
  /** Bytes accepted by write calls and not yet taken by the kernel. */
  readonly unsentBytes: number
  /** Sends a copy of `bytes`. Small replies; leaves at the latest at the end of this turn. */
  write(bytes: Uint8Array): void
  /**
   * Sends a range of a block without copying it. `release` is called exactly once, when the range is sent or the
   * stream has closed; the bytes must not change before. Order with `write` is kept.
   */
  writeBlock(block: Block, offset: number, length: number, release: () => void): void
  /**
   * From now on, the next `length` bytes go straight into `block` at `offset`, then `onFilled` is called. May be
   * called inside `onBytes` or `onFilled` (bytes of the current chunk count as already taken). One at a time.
   * If the stream closes first, `onFilled` is never called and the block is free to release at `onClosed`.
   */
  receiveInto(block: Block, offset: number, length: number): void
  /** Stops delivery, except of bytes already on their way through this process; the peer feels TCP back-pressure. */
  pause(): void
  resume(): void
  /** Sends what is queued, then closes. Bytes still arriving are discarded. */
  end(): void
  /** Closes at once; queued bytes are dropped. */
  destroy(): void
}
