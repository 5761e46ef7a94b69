// Calls into the addon with arguments that are nearly right: every answer is a value or a typed error, no range is ever
// left, and what is summed and copied agrees with zlib.
import { crc32 } from 'node:zlib'
import { Arena, binding, loadBinding, probeKernel, Ring } from '@millrace/native'

export const name = 'native-entry-points'

const ARENA_BYTES = 256 * 1024
const CODES = new Set(['ERR_MILLRACE_ARGUMENT', 'ERR_MILLRACE_RANGE', 'ERR_MILLRACE_CLOSED', 'ERR_MILLRACE_SYSTEM'])

/** Numbers in [0, 2^32) from a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

class Session {
  readonly ring = new Ring({ entries: 16, completions: 64 })
  readonly arenas = [new Arena(ARENA_BYTES, this.ring), new Arena(ARENA_BYTES, null)]
  private readonly bytes = this.arenas.map((arena) => new Uint8Array(arena.buffer))
  private readonly native = binding()

  constructor(private readonly random: () => number) {
    this.ring.registerBufferTable(4)
    for (const bytes of this.bytes) for (let i = 0; i < bytes.length; i += 4) bytes[i] = random()
  }

  close(): void {
    this.ring.close(100)
    for (const arena of this.arenas) arena.close()
  }

  step(): void {
    const steps = [() => this.checksum(), () => this.copy(), () => this.checksumBytes(), () => this.register()]
    steps.push(
      () => this.enter(),
      () => this.openAndClose(),
      () => this.anything(),
    )
    steps[this.random() % steps.length]!()
  }

  private checksum(): void {
    const index = this.random() % 2
    const [offset, length, seed] = [this.near(ARENA_BYTES), this.near(ARENA_BYTES), this.random()]
    const answer = typed(() => this.native.checksum(this.arenas[index]!.handle, offset, length, seed))
    const inside = isInside(offset, length)
    if ((answer === undefined) === inside) throw new Error(`checksum(${offset}, ${length}) answered ${answer}`)
    if (!inside) return
    const expected = crc32(this.bytes[index]!.subarray(offset, offset + length), seed)
    if (answer !== expected) throw new Error(`checksum(${offset}, ${length}, ${seed}) is ${answer}, not ${expected}`)
  }

  private copy(): void {
    const [to, from] = [this.random() % 2, this.random() % 2]
    const [targetOffset, sourceOffset] = [this.near(ARENA_BYTES), this.near(ARENA_BYTES)]
    const length = this.near(ARENA_BYTES)
    const inside = isInside(targetOffset, length) && isInside(sourceOffset, length)
    const source = inside ? this.bytes[from]!.slice(sourceOffset, sourceOffset + length) : null
    const answer = typed(() =>
      this.native.copyWithChecksum(
        this.arenas[to]!.handle,
        targetOffset,
        this.arenas[from]!.handle,
        sourceOffset,
        length,
        0,
      ),
    )
    if (answer === undefined) return
    if (source === null) throw new Error(`a copy of ${length} bytes left its arena`)
    if (answer !== crc32(source)) throw new Error('a copy has the wrong checksum')
    const copied = this.bytes[to]!.subarray(targetOffset, targetOffset + length)
    if (Buffer.compare(copied, source) !== 0) throw new Error('a copy differs from its source')
  }

  private checksumBytes(): void {
    const whole = this.bytes[0]!
    const begin = this.random() % whole.length
    const part = whole.subarray(begin, begin + (this.random() % 5000))
    for (const method of ['table', 'pclmul', 'vpclmul']) {
      const answer = this.native.checksumBytesWith(method, part, 0)
      if (answer !== undefined && answer !== crc32(part)) throw new Error(`${method} differs on ${part.length} bytes`)
    }
  }

  private register(): void {
    const arena = this.arenas[this.random() % 2]!
    typed(() => this.ring.registerBuffer(this.near(6), arena.handle))
    typed(() => this.ring.registerBufferTable(this.near(4)))
    // A group of its own each time: the kernel keeps what was registered until the ring closes.
    typed(() => this.ring.registerBufferRing(this.random() % 64, this.near(64), arena.handle, this.near(ARENA_BYTES)))
  }

  private enter(): void {
    const completed: number[] = []
    const count = this.random() % 40
    for (let i = 0; i < count; i++) this.ring.nop(i, this.random())
    this.ring.submit(0)
    while (completed.length < count) {
      this.ring.submit()
      this.ring.reap({ complete: (slot) => void completed.push(slot) })
    }
    typed(() => this.native.ringEnter(this.ring.handle, 0, 0, this.near(4)))
  }

  private openAndClose(): void {
    const arena = typed(() => new Arena(this.near(64) * 4096, null))
    if (arena !== undefined && !arena.close()) throw new Error('an arena could not be closed')
  }

  /** Any entry point that touches nothing but handles and memory, with any arguments. */
  private anything(): void {
    const names = ['checksum', 'copyWithChecksum', 'checksumBytes', 'ringEnter', 'ringReference', 'arenaOpen'] as const
    const entry: unknown = this.native[names[this.random() % names.length]!]
    if (typeof entry !== 'function') throw new Error('an entry point is missing')
    const args = Array.from({ length: this.random() % 8 }, () => this.value())
    const answer = typed((): unknown => Reflect.apply(entry, undefined, args))
    if (typeof answer === 'object' && answer !== null && 'handle' in answer) {
      this.native.arenaClose(Number(answer.handle))
    }
  }

  private value(): unknown {
    const { random } = this
    const kinds: readonly (() => unknown)[] = [
      () => random(),
      () => -random(),
      () => random() / 7,
      () => random() * random(),
      () => this.arenas[0]!.handle,
      () => this.ring.handle + 1,
      () => [undefined, null, true, '', 'x', {}, [], 1n, Number.NaN][random() % 9],
      () => this.bytes[0]!.subarray(0, random() % 100),
      () => 0,
    ]
    return kinds[random() % kinds.length]!()
  }

  /** Numbers around the edges of [0, limit]. */
  private near(limit: number): number {
    const edges = [0, 1, 15, 16, 255, 256, limit - 1, limit, limit + 1, -1, limit / 3, 2 ** 53, Number.NaN]
    const choice = this.random() % (edges.length * 2)
    return choice < edges.length ? edges[choice]! : this.random() % (limit + 1)
  }
}

function isInside(offset: number, length: number): boolean {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length)) return false
  return offset >= 0 && length >= 0 && offset + length <= ARENA_BYTES
}

/** The answer, or undefined for a typed refusal; anything else thrown is a finding. */
function typed<T>(call: () => T): T | undefined {
  try {
    return call()
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'string' && CODES.has(error.code)) {
      return undefined
    }
    throw error
  }
}

/** Makes `iterations` calls drawn from `seed`. @returns the calls made. @throws when an answer is wrong. */
export function run({ seed, iterations }: { seed: number; iterations: number }): number {
  if (!loadBinding().loaded || !probeKernel().ring.available) return iterations
  const session = new Session(randomFrom(seed))
  try {
    for (let i = 0; i < iterations; i++) session.step()
  } finally {
    session.close()
  }
  return iterations
}
