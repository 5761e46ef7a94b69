// Fuzzes the decoding of every message: any bytes give a message or a ProtocolError, a message no larger than its bytes
// allow, and one that comes back the same when it is encoded and decoded again.
import { isDeepStrictEqual } from 'node:util'
import { MESSAGES, type MessageCodec, ProtocolError, Reader, SeededRandom, Writer } from '@millrace/protocol'
import { concat, MESSAGE_SAMPLES } from '../test/samples.js'
import { mutate } from './mutate.js'

export const name = 'messages'

const PAYLOADS = MESSAGE_SAMPLES.map(({ codec, message, extra }) => {
  const writer = new Writer()
  codec.encode(message, writer)
  return { codec, payload: concat([writer.written(), extra]) }
})
const ALL = PAYLOADS.map(({ payload }) => payload)

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')

/** Things in a decoded message, each standing for some memory: objects, list entries, fields. Views take none. */
function countThings(value: unknown, payload: Uint8Array): number {
  if (value instanceof Uint8Array) {
    if (value.buffer !== payload.buffer) throw new Error('bytes were copied')
    return 1
  }
  if (typeof value === 'string') return 1 + value.length
  if (typeof value !== 'object' || value === null) return 1
  return Object.values(value).reduce<number>((sum, inner) => sum + countThings(inner, payload), 1)
}

/** PRODUCE says where its batches begin; that is a fact about the bytes, not about the message. */
function withoutPlace(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'batchesStart' in message
    ? { ...message, batchesStart: 0 }
    : message
}

function bytesBehind(message: unknown, payload: Uint8Array): Uint8Array {
  const isProduce = typeof message === 'object' && message !== null && 'batchesStart' in message
  return isProduce ? payload.subarray(Number(message.batchesStart)) : new Uint8Array(0)
}

function tryOne(codec: MessageCodec<unknown>, payload: Uint8Array, capacityBytes: number): void {
  let message: unknown
  try {
    message = codec.decode(new Reader(payload))
  } catch (error) {
    if (error instanceof ProtocolError) return
    throw error
  }
  const things = countThings(message, payload)
  if (things > payload.length + 32) throw new Error(`${things} things out of ${payload.length} bytes`)
  // A small first buffer, so that it has to grow in every field.
  const writer = new Writer(capacityBytes)
  codec.encode(message, writer)
  const again = codec.decode(new Reader(concat([writer.written(), bytesBehind(message, payload)])))
  if (!isDeepStrictEqual(withoutPlace(again), withoutPlace(message))) throw new Error('it comes back different')
}

export function run({ seed, iterations }: { seed: number; iterations: number }): number {
  const random = new SeededRandom(seed)
  for (let i = 0; i < iterations; i++) {
    const sample = PAYLOADS[random.below(PAYLOADS.length)]!
    // Mostly bytes of the message itself, now and then those of another one, or noise.
    const codec = random.oneIn(16) ? MESSAGES[random.below(MESSAGES.length)]! : sample.codec
    const payload = random.oneIn(32) ? random.bytes(random.below(300)) : mutate(random, sample.payload, ALL)
    try {
      tryOne(codec, payload, random.below(64))
    } catch (cause) {
      throw new Error(`${codec.name} ${hex(payload)}`, { cause })
    }
  }
  return iterations
}
