// Errors, topic names and limits: what is promised for ever, and what has to fit together.
import * as protocol from '@millrace/protocol'
import {
  AssertionError,
  assert,
  BATCH_HEADER_BYTES,
  CODE_OK,
  checkGroupName,
  checkTopicName,
  ERROR_TABLE,
  type ErrorName,
  errorName,
  GROUP_ENTRY_BYTES,
  GROUPS_TOPIC,
  isReservedTopicName,
  LOG_PART_BYTES,
  MAX_TOPIC_NAME_LENGTH,
  PRODUCE_ENTRY_BYTES,
  ProtocolError,
  ROUTE_BYTES,
  unreachable,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { codeOf } from './expect-error.js'

/** Numbers are for ever: this list only grows. */
const CODES: Readonly<Record<ErrorName, number>> = {
  CORRUPT_FRAME: 1,
  UNKNOWN_KIND: 2,
  UNSUPPORTED_FEATURE: 3,
  UNSUPPORTED_VERSION: 4,
  NOT_MILLRACE: 5,
  FRAME_TOO_LARGE: 6,
  HELLO_REQUIRED: 7,
  WRONG_CLUSTER: 8,
  WRONG_NODE: 9,
  WRONG_SHARD: 10,
  NOT_LEADER: 11,
  UNKNOWN_TOPIC: 12,
  UNKNOWN_PARTITION: 13,
  UNKNOWN_LANE: 14,
  TOPIC_EXISTS: 15,
  INVALID_TOPIC_NAME: 16,
  INVALID_CONFIG: 17,
  WRONG_DISK: 18,
  NODE_REMOVED: 19,
  CORRUPT_BATCH: 20,
  INVALID_BATCH: 21,
  BATCH_TOO_LARGE: 22,
  CODEC_NOT_ALLOWED: 23,
  UNKNOWN_PRODUCER: 24,
  OUT_OF_ORDER_SEQUENCE: 25,
  PRODUCER_FENCED: 26,
  OFFSET_OUT_OF_RANGE: 30,
  LOG_DIVERGED: 31,
  CURSOR_ID_IN_USE: 32,
  TOO_MANY_CURSORS: 33,
  MOVED: 34,
  TOPIC_DELETED: 35,
  OVERLOADED: 40,
  DISK_FULL: 41,
  STORAGE_FAILED: 42,
  DEADLINE_EXCEEDED: 43,
  SHUTTING_DOWN: 44,
  DAMAGED: 45,
  INVALID_REQUEST: 50,
  UNKNOWN_OPERATION: 51,
  INTERNAL: 60,
  UNKNOWN_MEMBER: 70,
  MEMBER_FENCED: 71,
  STALE_ASSIGNMENT: 72,
  UNKNOWN_GROUP: 73,
  GROUP_NOT_EMPTY: 74,
  COORDINATOR_LOADING: 75,
}
const names = Object.keys(ERROR_TABLE) as ErrorName[]

describe('the error table', () => {
  it('has the numbers it always had', () => {
    expect(Object.fromEntries(names.map((name) => [name, ERROR_TABLE[name].code]))).toEqual(CODES)
  })

  it('has every number once, and none for success', () => {
    const codes = names.map((name) => ERROR_TABLE[name].code)
    expect(new Set<number>(codes).size).toBe(codes.length)
    expect(codes).not.toContain(CODE_OK)
    for (const code of codes) expect(Number.isInteger(code) && code > 0 && code <= 0xffff).toBe(true)
  })

  it('finds names by number', () => {
    for (const name of names) expect(errorName(ERROR_TABLE[name].code)).toBe(name)
    for (const unknown of [CODE_OK, 9999, -1]) expect(errorName(unknown)).toBe(null)
  })

  it('tells what to do in a sentence', () => {
    for (const name of names) expect(ERROR_TABLE[name].advice, name).toMatch(/^[A-Z].*\.$/)
  })

  it('makes errors with detail, advice, cause and what follows', () => {
    const cause = new Error('why')
    const error = new ProtocolError('SHUTTING_DOWN', 'node 3 stops', { cause })
    expect(error.message).toBe(`node 3 stops. ${ERROR_TABLE.SHUTTING_DOWN.advice}`)
    expect([error.name, error.code, error.detail, error.cause]).toEqual([
      'ProtocolError',
      'SHUTTING_DOWN',
      'node 3 stops',
      cause,
    ])
    expect([error.retriable, error.fatal]).toEqual([true, true])
    expect(new ProtocolError('UNKNOWN_TOPIC', '').message).toBe(ERROR_TABLE.UNKNOWN_TOPIC.advice)
    expect(new ProtocolError('UNKNOWN_TOPIC', '')).toMatchObject({ retriable: false, fatal: false })
  })
})

describe('topic names', () => {
  it('that are allowed', () => {
    const longest = 'x'.repeat(MAX_TOPIC_NAME_LENGTH)
    for (const name of ['a', 'orders', 'A.b_c-9', '...', '.hidden', '-', '__meta', longest]) checkTopicName(name)
  })

  it('that are not', () => {
    const wrong = ['', '.', '..', 'a/b', '../etc/passwd', 'a\\b', 'a b', 'größe', 'a\n', 'a\0', 'c:', 'x'.repeat(250)]
    for (const name of wrong)
      expect(
        codeOf(() => checkTopicName(name)),
        JSON.stringify(name),
      ).toBe('INVALID_TOPIC_NAME')
  })
})

describe('names of groups and of the brokers', () => {
  it('follow the rule of topics, and say what they are names of', () => {
    for (const name of ['billing', 'a', 'x'.repeat(MAX_TOPIC_NAME_LENGTH)]) checkGroupName(name)
    for (const name of ['', '..', 'a b', 'größe', 'x'.repeat(250)])
      expect(
        codeOf(() => checkGroupName(name)),
        name,
      ).toBe('INVALID_REQUEST')
    expect(() => checkGroupName('a b', 'member')).toThrow('the name of a member has')
  })

  it('of topics that nobody else may write', () => {
    expect([GROUPS_TOPIC, '__x', '_orders', 'a__b'].map(isReservedTopicName)).toEqual([true, true, false, false])
    checkTopicName(GROUPS_TOPIC)
  })
})

describe('limits', () => {
  it('fit together', () => {
    const p = protocol
    expect(p.MAX_FRAME_BYTES).toBeGreaterThanOrEqual(p.MAX_BATCH_BYTES + LOG_PART_BYTES + PRODUCE_ENTRY_BYTES + 100)
    expect(p.MAX_BATCH_BYTES).toBeLessThanOrEqual(p.MAX_DECODED_BYTES)
    expect(p.MAX_FRAME_BYTES_BEFORE_HELLO).toBeGreaterThan(p.MAX_AUTHENTICATION_BYTES + 2 * p.MAX_STRING_BYTES + 48)
    expect(p.MAX_PARTITIONS_PER_TOPIC * ROUTE_BYTES).toBeLessThan(p.MAX_FRAME_BYTES / 8)
    expect(p.PRODUCER_WINDOW_BATCHES).toBeGreaterThanOrEqual(2 * p.MAX_IN_FLIGHT_BATCHES)
    expect(p.MAX_ENTRIES_PER_FRAME * (PRODUCE_ENTRY_BYTES + BATCH_HEADER_BYTES)).toBeLessThan(p.MAX_FRAME_BYTES)
    expect(p.MAX_KEY_BYTES + p.MAX_HEADER_BYTES_PER_RECORD).toBeLessThan(p.MAX_BATCH_BYTES)
    expect(p.MAX_ENTRIES_PER_FRAME * GROUP_ENTRY_BYTES).toBeLessThan(256 * 1024 - 1024)
    expect(p.MAX_PARTITIONS_PER_CONSUMER * GROUP_ENTRY_BYTES).toBeLessThan(p.MAX_FRAME_BYTES)
    // Sequences repeat after 2^32 batches; the window has to divide that, so that slots do too.
    expect(2 ** 32 % p.PRODUCER_WINDOW_BATCHES).toBe(0)
  })

  it('are what the wire format page says', () => {
    expect([protocol.MAX_FRAME_BYTES, protocol.MAX_FRAME_BYTES_BEFORE_HELLO]).toEqual([8_388_608, 16_384])
    expect([protocol.MAX_BATCH_BYTES, protocol.MAX_DECODED_BYTES]).toEqual([4_194_304, 16_777_216])
    expect([protocol.MAX_RECORDS_PER_BATCH, protocol.MAX_KEY_BYTES]).toEqual([65_536, 65_536])
    expect([protocol.MAX_HEADERS_PER_RECORD, protocol.MAX_HEADER_BYTES_PER_RECORD]).toEqual([256, 65_536])
    expect([protocol.MAX_ENTRIES_PER_FRAME, protocol.MAX_CURSORS_PER_CONNECTION]).toEqual([4_096, 10_000])
    expect([BATCH_HEADER_BYTES, LOG_PART_BYTES, ROUTE_BYTES, PRODUCE_ENTRY_BYTES]).toEqual([80, 40, 12, 24])
  })
})

describe('assertions', () => {
  it('stop at what must not be', () => {
    assert(true, 'fine')
    expect(() => assert(false, 'broken')).toThrow(AssertionError)
    expect(() => unreachable('x' as never)).toThrow('unreachable: x')
  })
})
