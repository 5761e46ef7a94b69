// Fuzzes a connection: whatever arrives, in whatever pieces, the broker answers by the protocol, gives back all memory,
// writes nothing but whole and honest batches, and goes on serving others.
import {
  ADMIN_OPERATIONS,
  admin,
  BATCH_HEADER_BYTES,
  checkRecords,
  crc32,
  cursorClose,
  cursorCredit,
  cursorOpen,
  encodeFrame,
  errorName,
  failure,
  hello,
  LOG_PART_BYTES,
  MESSAGES,
  mapSubscribe,
  offsets,
  ping,
  pong,
  Reader,
  SeededRandom,
  verifyBatch,
} from '@millrace/protocol'
import { encodeMessagePack } from '#src/message-pack.js'
import { endOffsetOf } from '#src/storage/read-selection.js'
import { batchOf } from '../test/server/batches.js'
import { HELLO, type InMemoryServer, startInMemory, type TestStream } from '../test/server/in-memory-server.js'
import { RawClient } from '../test/server/raw-client.js'
import { concat, mutated } from './bytes.js'

export const name = 'frames'

const TOPICS = 2
const PARTITIONS = 3
const MEMORY_BYTES = 8 * 1024 * 1024
const FRAME_BYTES = 256 * 1024
const CODECS = new Map(MESSAGES.map((message) => [message.kind, message]))

/** A frame that makes sense, most of the time. */
function someFrame(random: SeededRandom): Uint8Array {
  const id = random.below(40)
  const timeMs = random.oneIn(8) ? 1 + random.below(20) : 0
  const place = {
    topicId: random.below(TOPICS + 2),
    partition: random.below(PARTITIONS + 1),
    lane: random.oneIn(9) ? 1 : 0,
  }
  switch (random.below(10)) {
    case 0:
      return encodeFrame(ping, {}, { id })
    case 1:
      return encodeFrame(mapSubscribe, {}, { id })
    case 2: {
      const start = (['offset', 'earliest', 'latest', 'timestamp'] as const)[random.below(4)]!
      const routeVersion = { term: random.below(3), placement: 0 }
      const message = {
        ...place,
        routeVersion,
        start,
        position: random.below(9),
        lastTerm: random.below(3),
        credit: 1 + random.below(5_000),
      }
      return encodeFrame(cursorOpen, message, { id })
    }
    case 3:
      return encodeFrame(cursorCredit, { credit: random.below(100_000) }, { id })
    case 4:
      return encodeFrame(cursorClose, {}, { id })
    case 5: {
      const kind = (['earliest', 'latest', 'timestamp'] as const)[random.below(3)]!
      return encodeFrame(offsets, { queries: [{ ...place, kind, timestamp: random.u32() }] }, { id, timeMs })
    }
    case 6: {
      const operation = Object.values(ADMIN_OPERATIONS)[random.below(5)]!
      const fields = random.oneIn(2) ? {} : { name: `t${random.below(4)}`, partitions: random.below(4) }
      const payload = encodeMessagePack(fields)
      return encodeFrame(admin, { operation, mapVersion: random.below(6), payload }, { id, timeMs: 1 + timeMs })
    }
    default:
      return someProduce(random, id, timeMs)
  }
}

function someProduce(random: SeededRandom, id: number, timeMs: number): Uint8Array {
  const batches: Uint8Array[] = []
  for (let count = 1 + random.below(3); count > 0; count--) {
    const value = 'v'.repeat(random.oneIn(6) ? random.below(60_000) : random.below(60))
    const records = Array.from({ length: 1 + random.below(4) }, () => ({ key: 'k', value, timestamp: random.u32() }))
    const batch = batchOf(records, {
      topicId: 1 + random.below(TOPICS),
      partition: random.below(PARTITIONS),
      producer: [random.below(3), 0, 0, 0],
      sequence: random.below(5),
      epoch: random.below(2),
    })
    batches.push(random.oneIn(5) ? mutated(random, batch) : batch)
  }
  // Batches shorter than their header cannot be named in a frame.
  const whole = batches.filter((batch) => batch.length >= BATCH_HEADER_BYTES)
  if (whole.length === 0) return encodeFrame(ping, {}, { id })
  const acks = (['all', 'leader', 'none'] as const)[random.below(3)]!
  return RawClient.produceFrame(whole, { id, acks, timeMs })
}

/** What one client says. */
function someBytes(random: SeededRandom): Uint8Array {
  const pieces: Uint8Array[] = []
  if (!random.oneIn(12)) pieces.push(encodeFrame(hello, HELLO, { id: 1 }))
  for (let count = random.below(12); count > 0; count--) pieces.push(someFrame(random))
  const bytes = concat(pieces)
  if (random.oneIn(3)) return mutated(random, bytes)
  return random.oneIn(20) ? random.bytes(random.below(200)) : bytes
}

/** Every frame of the broker is one of its own kinds and decodes; every failure has a row in the table. */
function checkAnswers(stream: TestStream): void {
  for (const { header, payload } of stream.frames) {
    const codec = CODECS.get(header.kind)
    if (codec?.sender !== 'broker') throw new Error(`the broker sent a frame of kind ${header.kind}`)
    codec.decode(new Reader(payload))
    if (header.kind !== failure.kind) continue
    const { code } = failure.decode(new Reader(payload))
    if (errorName(code) === null || errorName(code) === 'INTERNAL') throw new Error(`the broker failed with ${code}`)
  }
}

/** What stands in the logs is whole, dense and in order. */
function checkLogs({ store }: InMemoryServer): void {
  for (const log of store.logs.values()) {
    let nextOffset = 0
    let index = 0
    for (const { bytes, part, header } of log.batches) {
      index++
      if (part.baseOffset !== nextOffset || part.index !== index) throw new Error(`batch ${part.index} is not the next`)
      nextOffset = endOffsetOf(part.baseOffset, header)
      if (!verifyBatch(bytes.subarray(LOG_PART_BYTES), crc32)) throw new Error(`batch ${index} is damaged`)
      if (header.codec !== 'none') continue
      const start = LOG_PART_BYTES + BATCH_HEADER_BYTES
      checkRecords(bytes, start, bytes.length, header.recordCount, header.lastOffsetDelta)
    }
  }
}

async function converse(server: InMemoryServer, random: SeededRandom): Promise<void> {
  const { clock, settle, store } = server
  const clients = Array.from({ length: 1 + random.below(3) }, () => ({
    stream: server.dial(),
    bytes: someBytes(random),
    at: 0,
  }))
  for (const { stream } of clients) stream.takes = !random.oneIn(3)
  for (let step = 0; step < 200 && clients.some(({ bytes, at }) => at < bytes.length); step++) {
    const client = clients[random.below(clients.length)]!
    const length = random.oneIn(3) ? 1 + random.below(20) : 1 + random.below(client.bytes.length)
    client.stream.receive(client.bytes.subarray(client.at, client.at + length), 1 + random.below(20_000))
    client.at += length
    if (random.oneIn(3)) clock.turn()
    if (random.oneIn(4)) await settle()
    if (random.oneIn(10)) clock.advance(random.below(40))
    if (random.oneIn(20)) client.stream.connection?.tick()
    if (random.oneIn(6)) client.stream.takeAll()
    if (random.oneIn(30)) client.stream.destroy()
    if (random.oneIn(15)) for (const log of store.logs.values()) log.full = random.oneIn(3)
  }
  for (const log of store.logs.values()) log.makeRoom()
  for (let i = 0; i < 4; i++) {
    for (const { stream } of clients) stream.takeAll()
    clock.advance(50)
    await settle()
  }
  for (const { stream } of clients) {
    stream.takes = true
    stream.takeAll()
    stream.end()
    checkAnswers(stream)
  }
  await settle()
  clock.advance(6_000)
  await settle()
}

function checkServer(server: InMemoryServer): void {
  if (server.bugs.length > 0) throw server.bugs[0]
  if (server.connections.size > 0) throw new Error(`${server.connections.size} connections are left`)
  if (server.memory.usedBytes !== 0) throw new Error(`${server.memory.usedBytes} bytes of memory are left`)
  const honest = server.open()
  honest.send(ping, {}, 7)
  if (honest.take(pong, 7).length !== 1) throw new Error('an honest client is not served')
  honest.end()
}

async function start(): Promise<InMemoryServer> {
  const server = await startInMemory({ memoryBytes: MEMORY_BYTES, frameBytes: FRAME_BYTES })
  for (let topic = 0; topic < TOPICS; topic++)
    await server.admin('createTopic', { name: `topic-${topic}`, partitions: PARTITIONS })
  return server
}

/** Tries `iterations` conversations drawn from `seed`. @returns how many. @throws when one shows a bug. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  let server = await start()
  for (let tried = 0; tried < iterations; tried++) {
    await converse(server, random)
    checkServer(server)
    if (tried % 50 === 49) {
      checkLogs(server)
      server = await start()
    }
  }
  checkLogs(server)
  return iterations
}
