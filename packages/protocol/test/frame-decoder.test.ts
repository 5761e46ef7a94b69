// The frame decoder: the same frames however the stream is cut, bounded, and clear about what is not Millrace.
import {
  crc32,
  encodeFrame,
  FRAME_HEADER_BYTES,
  FrameDecoder,
  type FrameHeader,
  MAX_FRAME_BYTES,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  nameForeignProtocol,
  ProtocolError,
  writeFrameHeader,
} from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf } from './expect-error.js'
import { bytesOf, concat, hexBytes, MESSAGE_SAMPLES, viewOf } from './samples.js'

interface Frame {
  readonly header: FrameHeader
  readonly payload: Uint8Array
}

const SAMPLE_FRAMES: readonly Uint8Array[] = MESSAGE_SAMPLES.map(({ codec, message, extra, id, timeMs }) =>
  concat([encodeFrame(codec, message, { id, timeMs, extraPayloadBytes: extra.length }), extra]),
)
const EMPTY_FRAME = frameOf({ length: 0, kind: 999, flags: 0x00ff, id: 1, timeMs: 2 })
const STREAM = concat([...SAMPLE_FRAMES, EMPTY_FRAME, EMPTY_FRAME, SAMPLE_FRAMES[0]!])

function frameOf(header: FrameHeader, payload: Uint8Array = new Uint8Array(header.length)): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length)
  writeFrameHeader(viewOf(frame), 0, header)
  frame.set(payload, FRAME_HEADER_BYTES)
  return frame
}

function collect(maxFrameBytes = MAX_FRAME_BYTES): { decoder: FrameDecoder; frames: Frame[] } {
  const frames: Frame[] = []
  const decoder = new FrameDecoder(maxFrameBytes, (header, payload) =>
    frames.push({ header, payload: payload.slice() }),
  )
  return { decoder, frames }
}

/** What tells frames apart, cheap to compare for thousands of streams. */
const summary = (frames: readonly Frame[]): string =>
  frames.map(({ header, payload }) => [...Object.values(header), crc32(payload, 0)].join(' ')).join('\n')

function decodeChunks(chunks: readonly Uint8Array[]): Frame[] {
  const { decoder, frames } = collect()
  for (const chunk of chunks) decoder.push(chunk)
  expect(decoder.pendingBytes).toBe(0)
  return frames
}

const WHOLE = decodeChunks([STREAM])

describe('the frame decoder', () => {
  it('finds the frames that were sent', () => {
    expect(WHOLE.length).toBe(SAMPLE_FRAMES.length + 3)
    const again = WHOLE.map(({ header, payload }) => frameOf(header, payload))
    expect(concat(again)).toEqual(STREAM)
  })

  it('finds the same frames when the stream is cut at any byte', () => {
    const expected = summary(WHOLE)
    for (let cut = 0; cut <= STREAM.length; cut++) {
      const frames = decodeChunks([STREAM.subarray(0, cut), STREAM.subarray(cut)])
      if (summary(frames) !== expected) expect(frames, `cut at ${cut}`).toEqual(WHOLE)
    }
  })

  it('finds the same frames when the bytes come one by one', () => {
    expect(decodeChunks(Array.from(STREAM, (byte) => Uint8Array.of(byte)))).toEqual(WHOLE)
  })

  it('finds the same frames in chunks of any lengths', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.nat(40), fc.nat(2000)), { maxLength: 60 }), (lengths) => {
        const chunks: Uint8Array[] = []
        let at = 0
        for (const length of [...lengths, STREAM.length]) {
          chunks.push(STREAM.subarray(at, at + length))
          at = Math.min(at + length, STREAM.length)
        }
        expect(summary(decodeChunks(chunks))).toBe(summary(WHOLE))
      }),
    )
  })

  it('hands out a view when a frame lies whole in a chunk, and gathers it otherwise', () => {
    const frame = SAMPLE_FRAMES[1]!
    const buffers: ArrayBufferLike[] = []
    const decoder = new FrameDecoder(MAX_FRAME_BYTES, (_header, payload) => buffers.push(payload.buffer))
    decoder.push(frame)
    decoder.push(frame.subarray(0, 20))
    expect(decoder.pendingBytes).toBe(20)
    decoder.push(frame.subarray(20))
    expect(buffers[0]).toBe(frame.buffer)
    expect(buffers[1]).not.toBe(frame.buffer)
  })

  it('finds the same frames when what belongs into its room is put there', () => {
    const lengths = fc.array(fc.oneof(fc.nat(40), fc.nat(2000)), { maxLength: 60 })
    fc.assert(
      fc.property(lengths, fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }), (wanted, inPlace) => {
        const { decoder, frames } = collect(MAX_FRAME_BYTES)
        let at = 0
        for (const [i, length] of [...wanted, ...Array<number>(STREAM.length).fill(STREAM.length)].entries()) {
          if (at === STREAM.length) break
          const { room } = decoder
          if (room !== null && inPlace[i % inPlace.length]!) {
            const bytes = STREAM.subarray(at, at + Math.min(length, room.length))
            room.set(bytes)
            decoder.filled(bytes.length)
            at += bytes.length
          } else {
            decoder.push(STREAM.subarray(at, at + length))
            at = Math.min(at + length, STREAM.length)
          }
        }
        expect(decoder.room).toBe(null)
        expect(summary(frames)).toBe(summary(WHOLE))
      }),
    )
  })

  it('has room only for a payload that has begun, of memory it was lent, and gathers nothing twice', () => {
    const lent: Uint8Array[] = []
    const payloads: Uint8Array[] = []
    const decoder = new FrameDecoder(
      MAX_FRAME_BYTES,
      (_header, payload) => payloads.push(payload),
      (byteLength) => {
        lent.push(new Uint8Array(byteLength).fill(0xee))
        return lent.at(-1)!
      },
    )
    const frame = frameOf({ length: 1_000, kind: 1, flags: 0, id: 1, timeMs: 0 }, new Uint8Array(1_000).fill(7))
    decoder.push(frame.subarray(0, FRAME_HEADER_BYTES))
    expect(decoder.room).toBe(null)
    decoder.push(frame.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + 300))
    expect(decoder.room?.length).toBe(700)
    expect(decoder.room?.buffer).toBe(lent[0]!.buffer)
    expect(() => decoder.filled(701)).toThrow(/room/)
    decoder.room!.fill(7)
    decoder.filled(700)
    expect(payloads).toEqual([new Uint8Array(1_000).fill(7)])
    expect(payloads[0]!.buffer).toBe(lent[0]!.buffer)
    expect(() => decoder.filled(1)).toThrow(/room/)
  })

  it('takes the largest frame and refuses one byte more, before its payload comes', () => {
    const header = { length: MAX_FRAME_BYTES_BEFORE_HELLO, kind: 1, flags: 0, id: 1, timeMs: 0 }
    const { decoder, frames } = collect(MAX_FRAME_BYTES_BEFORE_HELLO)
    decoder.push(frameOf(header))
    expect(frames.length).toBe(1)
    const over = frameOf({ ...header, length: header.length + 1 }, new Uint8Array(0))
    expect(codeOf(() => decoder.push(over))).toBe('FRAME_TOO_LARGE')
    expect(decoder.pendingBytes).toBe(FRAME_HEADER_BYTES)
    expect(codeOf(() => decoder.push(new Uint8Array(1)))).toBe('FRAME_TOO_LARGE')
    const largest = collect().decoder
    expect(codeOf(() => largest.push(new Uint8Array(FRAME_HEADER_BYTES).fill(0xff)))).toBe('FRAME_TOO_LARGE')
  })

  it('lets its owner raise the limit while a chunk is being taken', () => {
    const small = frameOf({ length: 4, kind: 1, flags: 0, id: 1, timeMs: 0 })
    const large = frameOf({ length: 50, kind: 1, flags: 0, id: 1, timeMs: 0 })
    const lengths: number[] = []
    const decoder: FrameDecoder = new FrameDecoder(10, (header) => {
      lengths.push(header.length)
      decoder.maxFrameBytes = 100
    })
    decoder.push(concat([small, large]))
    expect(lengths).toEqual([4, 50])
  })

  it('refuses features it must know and ignores those it need not', () => {
    for (let bit = 0; bit < 16; bit++) {
      const { decoder, frames } = collect()
      const push = () => decoder.push(frameOf({ length: 0, kind: 20, flags: 1 << bit, id: 1, timeMs: 0 }))
      if (bit >= 8) expect(codeOf(push)).toBe('UNSUPPORTED_FEATURE')
      else {
        push()
        expect(frames.length).toBe(1)
      }
    }
  })

  it('passes on what its owner throws', () => {
    const decoder = new FrameDecoder(100, () => {
      throw new ProtocolError('UNKNOWN_KIND', 'frame kind 999')
    })
    expect(codeOf(() => decoder.push(EMPTY_FRAME))).toBe('UNKNOWN_KIND')
  })
})

describe('foreign protocols', () => {
  const foreign: readonly (readonly [string, Uint8Array])[] = [
    ['a TLS handshake', hexBytes('16 03 01 02 00 01 00 01 fc 03 03')],
    ['a TLS handshake', hexBytes('16 03 03 00 7a 02')],
    ['a TLS alert', hexBytes('15 03 03 00 02 02 46')],
    ['an HTTP request', bytesOf('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    ['an HTTP request', bytesOf('POST')],
    ['an HTTP request', bytesOf('DELETE /topics')],
    ['an HTTP request', bytesOf('PRI * HTTP/2.0\r\n\r\n')],
    ['an HTTP answer', bytesOf('HTTP/1.1 400 Bad Request\r\n')],
    ['SSH', bytesOf('SSH-2.0-x\r\n')],
  ]
  for (const [name, bytes] of foreign) {
    it(`are named: ${name}, ${bytes.length} bytes`, () => {
      expect(nameForeignProtocol(bytes)).toContain(name)
      for (let cut = 0; cut < bytes.length; cut++) {
        const { decoder } = collect(MAX_FRAME_BYTES_BEFORE_HELLO)
        const push = () => {
          decoder.push(bytes.subarray(0, cut))
          decoder.push(bytes.subarray(cut))
        }
        expect(codeOf(push), `cut at ${cut}`).toBe('NOT_MILLRACE')
      }
    })
  }

  it('are no first frame of any length', () => {
    for (let length = 0; length <= MAX_FRAME_BYTES_BEFORE_HELLO; length++) {
      const start = new Uint8Array(FRAME_HEADER_BYTES)
      writeFrameHeader(viewOf(start), 0, { length, kind: 1, flags: 0, id: 1, timeMs: 0 })
      if (nameForeignProtocol(start) !== null) expect.fail(`a frame of ${length} bytes`)
    }
  })

  it('are looked for at the start of a stream only', () => {
    const { decoder, frames } = collect()
    decoder.push(EMPTY_FRAME)
    decoder.push(frameOf({ length: 0x010316, kind: 1, flags: 0, id: 1, timeMs: 0 }))
    expect(frames.length).toBe(2)
  })

  it('take four bytes to tell', () => {
    expect(nameForeignProtocol(bytesOf('GET'))).toBe(null)
  })
})
