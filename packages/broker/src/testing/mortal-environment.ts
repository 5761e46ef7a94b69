// An environment that can be killed in the middle of a process: what ran on it never hears of anything again.
import type {
  Clock,
  DatagramSocket,
  Disk,
  DiskFile,
  Environment,
  Listener,
  Logger,
  Network,
  Stream,
  StreamHandler,
  Volume,
} from '../environment.js'

/** Whether what runs on the environment is alive; nothing reaches it afterwards. */
class Life {
  isOver = false

  /** Settles as `begin` does, and never once life is over; then nothing is begun either. */
  guard<T>(begin: () => Promise<T>): Promise<T> {
    if (this.isOver) return new Promise(() => {})
    const begun = begin()
    return new Promise((resolve, reject) => {
      begun.then(
        (value) => this.run(() => resolve(value)),
        (cause: unknown) => this.run(() => reject(cause)),
      )
    })
  }

  run(callback: () => void): void {
    if (!this.isOver) callback()
  }
}

export interface MortalEnvironment extends Environment {
  /**
   * What `kill -9` does to a process: nothing of it runs any more, what the kernel has taken is done, and its sockets,
   * files and locks are gone when this resolves.
   */
  kill(): Promise<void>
}

export function mortal(inner: Environment): MortalEnvironment {
  const life = new Life()
  return {
    kind: inner.kind,
    clock: mortalClock(inner.clock, life),
    random: inner.random,
    memory: inner.memory,
    disk: mortalDisk(inner.disk, life),
    network: mortalNetwork(inner.network, life),
    crypto: inner.crypto,
    cores: inner.cores,
    log: mortalLogger(inner.log, life),
    bootId: inner.bootId,
    close: () => inner.close(),
    async kill() {
      life.isOver = true
      await inner.close()
    },
  }
}

function mortalClock(inner: Clock, life: Life): Clock {
  return {
    monotonicMs: () => inner.monotonicMs(),
    wallMs: () => inner.wallMs(),
    timer: (delayMs, callback) => inner.timer(delayMs, () => life.run(callback)),
    defer: (callback) => inner.defer(() => life.run(callback)),
  }
}

function mortalLogger(inner: Logger, life: Life): Logger {
  return {
    debug: (fields, message) => life.run(() => inner.debug(fields, message)),
    info: (fields, message) => life.run(() => inner.info(fields, message)),
    warn: (fields, message) => life.run(() => inner.warn(fields, message)),
    error: (fields, message) => life.run(() => inner.error(fields, message)),
  }
}

const DEAF: StreamHandler = { onBytes() {}, onFilled() {}, onClosed() {} }

function mortalNetwork(inner: Network, life: Life): Network {
  const opened = (open: (stream: Stream) => StreamHandler) => (stream: Stream) => {
    if (life.isOver) {
      stream.destroy()
      return DEAF
    }
    const handler = open(stream)
    return {
      onBytes: (chunk: Uint8Array) => life.run(() => handler.onBytes(chunk)),
      onFilled: () => life.run(() => handler.onFilled()),
      onClosed: (error: Error | null) => life.run(() => handler.onClosed(error)),
    }
  }
  return {
    listen: (options, accept) =>
      life.guard(async (): Promise<Listener> => {
        const listener = await inner.listen(options, opened(accept))
        const { host, port } = listener
        return { host, port, close: () => life.guard(() => listener.close()) }
      }),
    dial: (options, open) => life.guard(() => inner.dial(options, opened(open))),
    datagrams: (options, receive) =>
      life.guard(async (): Promise<DatagramSocket> => {
        const socket = await inner.datagrams(options, (bytes, from) => life.run(() => receive(bytes, from)))
        return {
          host: socket.host,
          port: socket.port,
          send: (host, port, bytes) => life.run(() => socket.send(host, port, bytes)),
          close: () => life.guard(() => socket.close()),
        }
      }),
  }
}

function mortalDisk(inner: Disk, life: Life): Disk {
  return {
    openVolume: (directory, options) =>
      life.guard(async () => new MortalVolume(await inner.openVolume(directory, options), life)),
  }
}

class MortalVolume implements Volume {
  readonly directory: string
  readonly direct: boolean
  readonly flushMethod: Volume['flushMethod']
  readonly note: string | null
  readonly list: Volume['list']
  readonly remove: Volume['remove']
  readonly syncDirectory: Volume['syncDirectory']
  readonly space: Volume['space']
  readonly readSmall: Volume['readSmall']
  readonly writeSmall: Volume['writeSmall']
  readonly close: Volume['close']
  private readonly files = new WeakMap<DiskFile, DiskFile>()

  constructor(
    private readonly inner: Volume,
    private readonly life: Life,
  ) {
    this.directory = inner.directory
    this.direct = inner.direct
    this.flushMethod = inner.flushMethod
    this.note = inner.note
    this.list = () => life.guard(() => inner.list())
    this.remove = (name) => life.guard(() => inner.remove(name))
    this.syncDirectory = () => life.guard(() => inner.syncDirectory())
    this.space = () => life.guard(() => inner.space())
    this.readSmall = (name) => life.guard(() => inner.readSmall(name))
    this.writeSmall = (name, bytes) => life.guard(() => inner.writeSmall(name, bytes))
    this.close = () => life.guard(() => inner.close())
  }

  open(name: string, options?: { readonly create?: boolean }): Promise<DiskFile> {
    return this.life.guard(async () => {
      const file = await this.inner.open(name, options)
      const guarded = mortalFile(file, this.life)
      this.files.set(guarded, file)
      return guarded
    })
  }

  flush(files: readonly DiskFile[]): Promise<void> {
    return this.life.guard(() => this.inner.flush(files.map((file) => this.files.get(file) ?? file)))
  }

  flushGrown(files: readonly DiskFile[]): Promise<void> {
    return this.life.guard(() => this.inner.flushGrown(files.map((file) => this.files.get(file) ?? file)))
  }
}

function mortalFile(inner: DiskFile, life: Life): DiskFile {
  return {
    name: inner.name,
    allocate: (byteLength) => life.guard(() => inner.allocate(byteLength)),
    write: (position, block, offset, length) => life.guard(() => inner.write(position, block, offset, length)),
    read: (position, block, offset, length) => life.guard(() => inner.read(position, block, offset, length)),
    sync: () => life.guard(() => inner.sync()),
    size: () => life.guard(() => inner.size()),
    close: () => life.guard(() => inner.close()),
  }
}
