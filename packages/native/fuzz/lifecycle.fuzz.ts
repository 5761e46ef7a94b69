// The lives of rings and arenas in every order, and bytes in every kind of buffer: whatever is called when, from a turn
// too, answers with a value or a typed error, what is closed stays closed, and no byte is read that is not there.
import { crc32 } from 'node:zlib'
import { type Binding, binding, loadBinding, probeKernel } from '@millrace/native'

export const name = 'native-lifecycle'

const ARENA_BYTES = 64 * 1024
const CODES = new Set(['ERR_MILLRACE_ARGUMENT', 'ERR_MILLRACE_RANGE', 'ERR_MILLRACE_CLOSED', 'ERR_MILLRACE_SYSTEM'])
const CLOSED = 'ERR_MILLRACE_CLOSED'
const MOST_RINGS = 3
const MOST_ARENAS = 4
/** Entry points that make nothing outside of the session's own rings, arenas and pool work. */
const HARMLESS = [
  'arenaClose',
  'checksum',
  'checksumBytes',
  'checksumBytesWith',
  'copyWithChecksum',
  'ringEnter',
  'ringReference',
  'ringRegisterBuffer',
  'ringRegisterBufferRing',
  'ringRegisterBufferTable',
  'ringStart',
] as const

/** Numbers in [0, limit) from a seed (mulberry32). */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed >>> 0
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}

interface OpenRing {
  readonly handle: number
  readonly views: readonly ArrayBuffer[]
  started: boolean
}

interface OpenArena {
  readonly handle: number
  readonly buffer: ArrayBuffer
}

class Session {
  turns = 0
  private readonly native: Binding = binding()
  private readonly rings: OpenRing[] = []
  private readonly arenas: OpenArena[] = []
  /** Handles that were closed, of both kinds: refused for ever. */
  private readonly closedRings: number[] = []
  private readonly closedArenas: number[] = []
  private inTurn = false

  constructor(private readonly random: (limit: number) => number) {}

  step(): void {
    const steps = [
      () => this.openRing(),
      () => this.openArena(),
      () => this.closeRing(),
      () => this.closeArena(),
      () => this.start(),
      () => this.callAfterClose(),
      () => this.sumBytes(),
      () => this.enter(),
      () => this.callAnything(),
    ]
    this.pick(steps)?.()
  }

  close(): void {
    while (this.rings.length > 0) this.closeRing()
    while (this.arenas.length > 0) this.closeArena()
  }

  private openRing(): void {
    if (this.rings.length === MOST_RINGS) return
    const opened = this.native.ringOpen(8, 16, 0xffffffff)
    // The kernel may be short of memory; that it may not be anything else shows in other tests.
    if ('call' in opened) return
    const { handle, ring, sqes, control } = opened
    if (this.closedRings.includes(handle)) throw new Error(`the handle ${handle} of a ring came twice`)
    this.rings.push({ handle, views: [ring, sqes, control], started: false })
  }

  private openArena(): void {
    if (this.arenas.length === MOST_ARENAS) return
    const ring = this.pick(this.rings)?.handle ?? 0
    const { handle, buffer } = this.native.arenaOpen(ARENA_BYTES, ring)
    if (this.closedArenas.includes(handle)) throw new Error(`the handle ${handle} of an arena came twice`)
    new Uint8Array(buffer).fill(this.random(256))
    this.arenas.push({ handle, buffer })
  }

  private closeRing(): void {
    const ring = this.take(this.rings)
    if (ring === undefined) return
    if (this.native.ringClose(ring.handle, 10) !== 0) throw new Error('a ring with nothing in flight did not drain')
    for (const view of ring.views) if (view.byteLength > 0) throw new Error('a closed ring is still mapped')
    this.closedRings.push(ring.handle)
  }

  private closeArena(): void {
    const arena = this.take(this.arenas)
    if (arena === undefined) return
    if (!this.native.arenaClose(arena.handle)) throw new Error('an arena stays mapped')
    if (arena.buffer.byteLength > 0) throw new Error('a closed arena is still visible')
    this.closedArenas.push(arena.handle)
  }

  /** The turn calls back into everything, and may close its own ring. */
  private start(): void {
    const ring = this.pick(this.rings)
    if (ring === undefined || ring.started) return
    ring.started = true
    let left = 1 + this.random(4)
    this.native.ringStart(ring.handle, () => {
      const [, , control] = ring.views
      if (control!.byteLength === 0) throw new Error('the turn of a closed ring was called')
      if (--left <= 0) new Uint32Array(control!)[0] = 0
      this.turns++
      if (this.inTurn) throw new Error('turns are nested')
      this.inTurn = true
      try {
        for (let i = this.random(6); i > 0; i--) this.step()
      } finally {
        this.inTurn = false
      }
    })
    new Uint32Array(ring.views[2]!)[0] = 1
  }

  private callAfterClose(): void {
    const ring = this.pick(this.closedRings)
    const arena = this.pick(this.closedArenas)
    const { native } = this
    const calls: (() => unknown)[] = []
    if (ring !== undefined) {
      calls.push(
        () => native.ringClose(ring, 0),
        () => native.ringEnter(ring, 1, 0, 0),
        () => native.ringReference(ring),
        () => native.ringRegisterBufferTable(ring, 1),
        () => native.ringStart(ring, () => {}),
      )
    }
    if (arena !== undefined) {
      calls.push(
        () => native.arenaClose(arena),
        () => native.checksum(arena, 0, 0, 0),
        () => native.copyWithChecksum(arena, 0, arena, 0, 0, 0),
      )
    }
    const call = this.pick(calls)
    if (call !== undefined && codeOf(call) !== CLOSED) throw new Error(`a closed handle was taken: ${call.toString()}`)
  }

  /** Nothing is ever submitted: the kernel would be told of memory that JavaScript does not own. */
  private enter(): void {
    const ring = this.pick(this.rings)
    if (ring !== undefined) this.native.ringEnter(ring.handle, 0, 0, this.random(2))
  }

  private sumBytes(): void {
    const bytes = this.bytes()
    if (bytes instanceof Uint8Array) {
      const expected = crc32(copyOf(bytes))
      const sum = this.native.checksumBytes(bytes, 0)
      if (sum !== expected) throw new Error(`the sum of ${bytes.length} bytes is ${sum}, not ${expected}`)
    } else {
      const code = codeOf(() => Reflect.apply(this.native.checksumBytes, undefined, [bytes, 0]))
      if (code !== 'ERR_MILLRACE_ARGUMENT') throw new Error(`bytes of another kind were taken: ${String(code)}`)
    }
  }

  /** Views over memory that is detached, shared, resized below them, of an arena, closed perhaps, or not bytes at all. */
  private bytes(): unknown {
    const length = this.random(300)
    switch (this.random(8)) {
      case 0: {
        const detached = new Uint8Array(length)
        structuredClone(detached.buffer, { transfer: [detached.buffer] })
        return detached
      }
      case 1:
        return new Uint8Array(new SharedArrayBuffer(length)).fill(this.random(256))
      case 2:
      case 3:
        return this.resized(length)
      case 4: {
        const arena = this.pick(this.arenas)
        return arena === undefined ? new Uint8Array(0) : new Uint8Array(arena.buffer, this.random(ARENA_BYTES))
      }
      case 5:
        return new Float64Array(this.random(20))
      case 6:
        return this.pick([
          new ArrayBuffer(8),
          new DataView(new ArrayBuffer(8)),
          [1, 2, 3],
          'bytes',
          null,
          undefined,
          7n,
        ])
      default:
        return new Uint8Array(length + 8).fill(this.random(256)).subarray(this.random(8))
    }
  }

  /** A view that was made before its buffer shrank or grew: it follows the length, keeps its own, or lies outside. */
  private resized(length: number): Uint8Array {
    const buffer: ArrayBuffer = Reflect.construct(ArrayBuffer, [length, { maxByteLength: 600 }])
    const from = this.random(length + 1)
    const view = this.random(2) === 0 ? new Uint8Array(buffer, from) : new Uint8Array(buffer, from, length - from)
    const resize: unknown = Reflect.get(buffer, 'resize')
    if (typeof resize === 'function') Reflect.apply(resize, buffer, [this.random(600)])
    return view
  }

  private callAnything(): void {
    const entry: unknown = this.native[HARMLESS[this.random(HARMLESS.length)]!]
    if (typeof entry !== 'function') throw new Error('an entry point is missing')
    const args = Array.from({ length: this.random(8) }, () => this.value())
    // A handle that happens to be right is a right call: what it closed is no longer ours to close.
    codeOf(() => Reflect.apply(entry, undefined, args))
    for (const arena of [...this.arenas]) {
      if (arena.buffer.byteLength > 0) continue
      this.arenas.splice(this.arenas.indexOf(arena), 1)
      this.closedArenas.push(arena.handle)
    }
  }

  private value(): unknown {
    const { random } = this
    switch (random(8)) {
      case 0:
        return this.pick([0, -1, -0, 0.5, 2 ** 31, 2 ** 32, 2 ** 52, 2 ** 53, 2 ** 64, Number.NaN, -Infinity, 5e-324])
      case 1:
        return this.pick(this.arenas)?.handle
      case 2:
        return this.pick(this.rings)?.handle
      case 3:
        return this.bytes()
      case 4:
        return this.pick([undefined, null, true, '', 'table', 'pclmul', {}, [], 1n, Symbol('x'), new Proxy({}, {})])
      case 5:
        return { valueOf: () => this.closeArena() }
      default:
        return random(ARENA_BYTES * 2)
    }
  }

  private pick<T>(list: readonly T[]): T | undefined {
    return list.length === 0 ? undefined : list[this.random(list.length)]
  }

  private take<T>(list: T[]): T | undefined {
    return list.length === 0 ? undefined : list.splice(this.random(list.length), 1)[0]
  }
}

/** What is there to see: nothing where a view is detached or lies outside, whatever `length` says in optimized code. */
function copyOf(view: Uint8Array): Uint8Array {
  try {
    return Uint8Array.from(view)
  } catch (error) {
    if (error instanceof TypeError) return new Uint8Array(0)
    throw error
  }
}

/** The code of a typed refusal, undefined for an answer; anything else thrown is a finding. */
function codeOf(call: () => unknown): string | undefined {
  try {
    call()
    return undefined
  } catch (error) {
    if (error instanceof Error && 'code' in error && typeof error.code === 'string' && CODES.has(error.code)) {
      return error.code
    }
    throw error
  }
}

/** Takes `iterations` steps drawn from `seed`, letting turns run now and then. @throws when an answer is wrong. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  if (!loadBinding().loaded || !probeKernel().ring.available) return iterations
  const random = randomFrom(seed)
  let session = new Session(random)
  try {
    for (let i = 0; i < iterations; i++) {
      session.step()
      if (random(50) === 0) await new Promise((resolve) => setImmediate(resolve))
      // Handles that were closed are remembered: a session is kept short enough to go through them.
      if (random(2000) > 0) continue
      session.close()
      session = new Session(random)
    }
  } finally {
    session.close()
  }
  return iterations
}
